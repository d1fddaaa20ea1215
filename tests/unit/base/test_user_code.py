"""Users' code in a block: its output and its errors."""

import sys

import pytest

from fathomlab.base.errors import PLUGIN_FILE, UserError
from fathomlab.base.user_code import user_code


def _run(source: str) -> None:
    exec(compile(source, PLUGIN_FILE.format("parts.py"), "exec"))


@pytest.mark.parametrize("statement", ["1 / 0", "raise SystemExit(0)", "raise GeneratorExit"])
def test_error_names_the_line_and_the_part(statement: str):
    with pytest.raises(UserError) as raised, user_code("Net"):
        _run(f"\n{statement}")
    assert raised.value.code == "plugin-error"
    assert str(raised.value).startswith("parts.py:2: Net: ")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), UserError("no-images", "empty")])
def test_interrupts_and_reported_problems_pass(error: BaseException):
    with pytest.raises(type(error)) as raised, user_code("Net"):
        raise error
    assert raised.value is error


def test_output_goes_to_standard_error(capsys: pytest.CaptureFixture[str]):
    with user_code("Net"):
        _run("print('loading')")
    sys.stdout.write("result")
    assert tuple(capsys.readouterr()) == ("result", "loading\n")
