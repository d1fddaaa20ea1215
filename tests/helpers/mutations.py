"""Experiment files after a few accidents: flipped bits, cuts, repetitions, and foreign tokens."""

import random
import re
from collections.abc import Callable

from tests.helpers.grammar import PLAIN_JUNK, TEXT_JUNK, WORDS, emitted


def mutated(text: bytes, chance: random.Random) -> bytes:
    """A file after a few accidents."""
    document = bytearray(text)
    for _ in range(chance.choice([1, 1, 1, 2, 4])):
        place, length = chance.randrange(len(document) + 1), chance.randrange(1, 40)
        chance.choice(ACCIDENTS)(document, place, length, chance)
    return bytes(document)


def _flip(document: bytearray, place: int, _: int, chance: random.Random) -> None:
    if place < len(document):
        document[place] ^= 1 << chance.randrange(8)


def _cut(document: bytearray, place: int, length: int, _: random.Random) -> None:
    del document[place : place + length]


def _tail(document: bytearray, place: int, _: int, __: random.Random) -> None:
    del document[place:]


def _again(document: bytearray, place: int, length: int, chance: random.Random) -> None:
    document[place:place] = document[place : place + length] * chance.choice([1, 1, 50])


def _token(document: bytearray, place: int, _: int, chance: random.Random) -> None:
    tokens = [
        "&a ",
        "*a",
        "<<: ",
        "!!int ",
        "- ",
        ": ",
        "{",
        "}",
        "[",
        "]",
        "'",
        '"',
        "|",
        "\n",
        "\t",
        "? ",
        "---\n",
        "%",
    ]
    token = chance.choice([*tokens, *WORDS, "\0", "\ufeff", "\u2028", "\x85", "[" * 60, "9" * 5000])
    document[place:place] = token.encode()


def _value(document: bytearray, _: int, __: int, chance: random.Random) -> None:
    values = list(re.finditer(rb"(?<=: )[^\n#]+", bytes(document)))
    if values:
        match = chance.choice(values)
        junk = chance.choice([*WORDS, *map(emitted, PLAIN_JUNK), *map(emitted, TEXT_JUNK)])
        document[match.start() : match.end()] = junk.encode("utf-8", "surrogatepass")


ACCIDENTS: tuple[Callable[[bytearray, int, int, random.Random], None], ...] = (
    _flip,
    _cut,
    _tail,
    _again,
    _token,
    _value,
)
