"""Documents from the grammar of the schema, corrupted bundled files, and overrides: planned, or rejected with a message.

FATHOMLAB_FUZZ_CASES sets the number of cases, FATHOMLAB_FUZZ_SEED the seed, FATHOMLAB_FUZZ_ONLY runs one case of it.
"""

import os
import random
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fathomlab
from tests.helpers import grammar
from tests.helpers.mutations import mutated

FILES = sorted((Path(__file__).parents[3] / "configs").glob("*.yaml"))
MAX_SECONDS = 1.0
MANY_TRIALS = 2_000  # planning is linear in the trials: what is right and larger may take its time


def source_of(case: int, rng: random.Random, path: Path) -> tuple[Any, list[str], bool]:
    """What a case loads: a mapping, a file, a damaged file of the laboratory, or overrides on one of them."""
    kind = case % 10
    wild = rng.choice([0.0, 0.02, 0.1])
    quick = rng.random() < 0.2
    if kind < 4:
        return grammar.Grammar(rng, wild, python=True).document(), [], quick
    if kind < 7:
        text = grammar.as_text(grammar.Grammar(rng, wild, python=False).document())
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        return path, [], quick
    if kind < 9:
        path.write_bytes(mutated(rng.choice(FILES).read_bytes(), rng))
        return path, [], quick
    drawn = grammar.Grammar(rng, max(wild, 0.02), python=False)
    pairs = [drawn.chance.choice(grammar.PATHS) for _ in range(rng.choice([1, 2, 5]))]
    overrides = [f"{key}={grammar.emitted(drawn.value(hint))}" for key, hint in pairs]
    if rng.random() < 0.2:
        overrides.append(mutated(overrides[0].encode("utf-8", "replace"), rng).decode("utf-8", "surrogateescape"))
    return rng.choice(FILES), overrides, quick


def judged(source: Any, overrides: list[str], quick: bool) -> str:
    """What became of it: `plan`, or `refused`; anything else is an error of ours."""
    try:
        plan = fathomlab.load(source, overrides, quick)
    except fathomlab.ConfigError as error:
        assert all(problem.message.strip() for problem in error.problems)  # noqa: PT017
        assert "\x1b" not in str(error)  # noqa: PT017
        return "refused"
    except fathomlab.UserError as error:
        assert error.code == "no-quick-section", error  # noqa: PT017
        return "refused"
    assert all(len(trial.hash) == 64 for trial in plan.trials[:5])
    return "plan" if len(plan.trials) <= MANY_TRIALS else "large plan"


def fuzz(cases: int, seed: int, path: Path) -> Counter[str]:
    """Judge so many cases; a failure says how to replay it."""
    outcomes: Counter[str] = Counter()
    only = os.environ.get("FATHOMLAB_FUZZ_ONLY")
    for case in [int(only)] if only else range(cases):
        source, overrides, quick = source_of(case, random.Random(f"{seed}:{case}"), path)
        started = time.process_time()
        try:
            outcome = judged(source, overrides, quick)
            taken = time.process_time() - started
            assert taken < MAX_SECONDS or outcome == "large plan", f"took {taken:.2f} s"
        except Exception as error:
            sys.set_int_max_str_digits(0)  # so that the message can show the case
            shown = source.read_bytes() if isinstance(source, Path) else source
            again = f"FATHOMLAB_FUZZ_SEED={seed} FATHOMLAB_FUZZ_ONLY={case}"
            pytest.fail(
                f"{again}: {type(error).__name__}: {str(error)[:400]}\n{ascii(shown)[:3000]}\n{ascii(overrides)[:2000]}"
            )
        outcomes[outcome] += 1
    return outcomes


@pytest.mark.parametrize("cases", [500, pytest.param(100_000, marks=pytest.mark.slow)])
def test_load_raises_only_user_errors(tmp_path: Path, fuzz_seed: int, cases: int):
    """Enough cases are valid, so that the plan is reached, and enough are invalid."""
    cases = int(os.environ.get("FATHOMLAB_FUZZ_CASES") or cases)
    outcomes = fuzz(cases, fuzz_seed, tmp_path / "exp.yaml")
    if cases >= 500 and not os.environ.get("FATHOMLAB_FUZZ_ONLY"):
        assert outcomes["plan"] > cases / 10, outcomes
        assert outcomes["refused"] > cases / 10, outcomes


def test_grammar_contains_every_option():
    """What is added to the schema or to a table of parts is drawn without a line here."""
    keys = {path for path, _ in grammar.PATHS}
    expected = {"data.batch_size", "training.lr", "model.params.layers_dim", "model.params.stem", "distillation.alpha"}
    expected |= {"training.optimizer_params.betas", "training.scheduler_params.gamma", "data.params.difficulty"}
    assert keys > expected | {"experiment.seeds", "claims.expect", "student_model.params.residual"}


@settings(
    max_examples=100, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_load_rejects_arbitrary_bytes(tmp_path: Path, content: bytes):
    path = tmp_path / "exp.yaml"
    path.write_bytes(content)
    with pytest.raises(fathomlab.ConfigError):
        fathomlab.load(path)
