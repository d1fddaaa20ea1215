"""The compiled backend if its compiler fails. `tests/contract/test_backends.py` compares its numbers."""

import pytest

from fathomlab.base.errors import UserError
from fathomlab.engine.backends import BACKENDS
from tests.helpers import small_training
from tests.helpers.compilers import use_failing_compiler


def test_prepare_raises_if_the_compiler_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first step: the state is unchanged."""
    use_failing_compiler(monkeypatch)
    trainer = small_training.make_trainer([small_training.recipe(small_training.mlp(batch_norm=True))])
    before = {name: tensor.clone() for name, tensor in trainer.state.buffers.items()}
    with pytest.raises(UserError) as caught:
        BACKENDS["compiled"].prepare(trainer)
    assert caught.value.code == "backend-failed"
    assert "no headers" in str(caught.value)
    small_training.assert_identical(trainer.state.buffers, before)
