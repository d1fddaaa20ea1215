"""What a guarded command prints."""

import json
import sys
import threading

import pytest

from fathomlab.cli.guard import guarded


def test_event_lines_turn_other_text_into_messages(capsys: pytest.CaptureFixture[str]):
    """Dictionaries that a plugin prints are no events, and a last line needs no end."""
    event, others = '{"event": "note", "text": "a"}', ["text", "{'a': 1}", '{"a": 1}', "[" * 100_000, "end"]

    def command() -> None:
        sys.stderr.write("\n".join([event, *others]))

    assert guarded(command, as_json=False, as_events=True) == 0
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert lines == [json.loads(event), *({"event": "message", "text": text} for text in others)]


def test_event_lines_of_threads_do_not_mix(capsys: pytest.CaptureFixture[str]):
    """A plugin prints while an event is written."""

    def command() -> None:
        sys.stderr.write('{"event": "note", "text": "a"}')
        thread = threading.Thread(target=print, args=("text",), kwargs={"file": sys.stderr})
        thread.start()
        thread.join()
        sys.stderr.write("\n")

    assert guarded(command, as_json=False, as_events=True) == 0
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert lines == [{"event": "message", "text": "text"}, {"event": "note", "text": "a"}]
