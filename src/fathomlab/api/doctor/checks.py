"""A check of the doctor: what was found, whether it is a problem, and the remedy."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

Status: TypeAlias = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Check:
    """What was found.

    Attributes:
        topic: Heading under which it is shown.
        name: What was checked.
        value: What was found.
        status: ok, note (worth knowing), or problem (it prevents training).
        remedy: What to do about it; `""` if nothing.
    """

    topic: str
    name: str
    value: str
    status: Status = "ok"
    remedy: str = ""


def contained(topic: str, name: str, find: Callable[[], Iterable[Check]]) -> Iterator[Check]:
    """The checks that a function finds. An error in it becomes a note, because the others must still run."""
    try:
        yield from find()
    except Exception as error:  # whatever is broken on this computer
        text = " ".join(str(error).split()) or "no message"
        yield Check(topic, name, f"could not be checked ({type(error).__name__}: {text[:200]})", "note")
