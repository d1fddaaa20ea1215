"""What is printed never fails a command: narrow code pages, full and closed streams, other locales."""

import json
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from fathomlab.base.output import encodable

COMMANDS = (
    ["list"],
    ["plan", "tiny.yaml"],
    ["verify", "tiny.yaml"],
    ["report"],
    ["--help"],
    ["list", "--json"],
    ["store", "check"],
)


def test_every_code_page_shows_the_output(trained: Path, shell: SimpleNamespace):
    """Verdicts hold a minus sign that these encodings lack; the exit status is that of the verdict."""
    for encoding in ("cp1252", "latin-1", "ascii", "cp437", "cp932", "utf-16"):
        done = shell.run("verify", "tiny.yaml", cwd=trained, environment={"PYTHONIOENCODING": encoding})
        assert done.returncode == 1, done.stderr
        assert b"Traceback" not in done.stderr
        assert "Shortcuts help" in done.stdout.decode(encoding)


def test_a_full_disk_behind_standard_output_is_status_3(trained: Path, shell: SimpleNamespace):
    """One line on standard error, whatever the command."""
    for words in COMMANDS:
        with open("/dev/full", "wb") as full:
            done = shell.run(*words, cwd=trained, stdout=full)
        assert done.returncode == 3, (words, done.stderr)
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_a_closed_standard_output_is_status_3(trained: Path, shell: SimpleNamespace):
    """The shell's `>&-`."""
    words = 'exec 1>&-; exec "$@"'
    start = "import sys; from fathomlab.cli import main; main()"
    import sys

    command = ["sh", "-c", words, "sh", sys.executable, "-P", "-c", start, "list"]
    environment = os.environ | {"PYTHONPATH": shell.source}
    done = subprocess.run(command, cwd=trained, env=environment, stderr=subprocess.PIPE, timeout=120, check=False)
    assert done.returncode == 3, done.stderr


def test_everything_is_trained_before_a_full_disk_is_noticed(tiny: Path, shell: SimpleNamespace):
    """The results are in the store; only the summary is lost."""
    with open("/dev/full", "wb") as full:
        done = shell.run("run", "tiny.yaml", "--progress", "off", cwd=tiny, stdout=full)
    assert done.returncode == 3
    again = shell.run("run", "tiny.yaml", "--progress", "off", "--json", cwd=tiny)
    assert json.loads(again.stdout)["cached"] == 4


def test_a_full_disk_behind_standard_error_changes_nothing(tiny: Path, shell: SimpleNamespace):
    """Progress is lost; the run and its summary are not."""
    with open("/dev/full", "wb") as full:
        done = shell.run("run", "tiny.yaml", "--progress", "plain", "--json", cwd=tiny, stderr=full)
    assert done.returncode == 0
    assert json.loads(done.stdout)["trained"] == 4


def test_a_reader_that_has_gone_is_no_error(trained: Path, shell: SimpleNamespace):
    """As in `fathomlab list | head -0`."""
    reading, writing = os.pipe()
    os.close(reading)
    done = shell.run("list", "--json", cwd=trained, stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


def test_one_plan_has_one_record_whatever_the_locale_or_name(tmp_path: Path, shell: SimpleNamespace):
    """A name outside ASCII read in the C locale, and the file renamed."""
    (tmp_path / "größe.yaml").write_text(shell.text)
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    assert shell.run("run", "größe.yaml", "--progress", "off", cwd=tmp_path).returncode == 0
    assert shell.run("run", "größe.yaml", "--progress", "off", cwd=tmp_path, environment=plain).returncode == 0
    (tmp_path / "größe.yaml").rename(tmp_path / "other.yaml")
    assert shell.run("run", "other.yaml", "--progress", "off", cwd=tmp_path).returncode == 0
    (name,) = os.listdir(tmp_path / "runs" / "experiments")
    assert name.isascii()


def test_usage_errors_are_problems_in_json(tiny: Path, shell: SimpleNamespace):
    """Exit 2 prints the problems with code, file, line, and key."""
    (tiny / "bad.yaml").write_text(shell.text.replace("epochs: 1", "epochs: none"))
    done = shell.run("plan", "bad.yaml", "--json", cwd=tiny)
    assert done.returncode == 2
    (problem,) = json.loads(done.stdout)["problems"]
    assert (problem["file"], problem["line"], problem["key"]) == ("bad.yaml", 6, "training.epochs")
    assert problem["code"] == "wrong-type"
    assert done.stderr
    missing = shell.run("show", "abcd", "--json", cwd=tiny)
    assert missing.returncode == 2
    assert json.loads(missing.stdout)["problems"][0]["code"] == "no-such-trial"
    usage = shell.run("plan", "--nonsense", "--json", cwd=tiny)
    assert usage.returncode == 2
    assert json.loads(usage.stdout)["problems"][0]["code"] == "usage"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp437", "no-such-encoding", None])
def test_any_text_can_be_encoded(encoding: str | None):
    """Including signs, emoji, and right-to-left letters."""
    text = "\u22121.5 \u00b1 2 \u2192 \U0001f600 \u05d0 \u202e \u0000"
    shown = encodable(text, encoding)
    shown.encode(encoding if encoding not in (None, "no-such-encoding") else "utf-8")
    if encoding == "ascii":
        assert shown.startswith("-1.5 +- 2 -> ")
