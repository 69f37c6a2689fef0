"""Long work done bit by bit: loops over many collections, JSON with long lists of numbers.

A parser in C holds the interpreter until it is done, in a thread too: for what DataCoord says of 100,000
collections that is a tenth of a second in which nobody is answered. Its long lists hold numbers only, so they
are cut out and parsed piece by piece; what is left is short.

Work that is done so is a generator; whoever runs it lets others have their turn whenever it yields. Pure.
"""

import json
import re
from collections.abc import Collection, Generator, Iterable, Iterator
from itertools import islice
from typing import Any, Final, TypeVar

T = TypeVar("T")

AT_ONCE: Final = 1000
"""Collections that are looked at without a pause: a millisecond's work, or two."""

PIECE_CHARS: Final = 32 * 1024
"""So much is parsed without a pause: a millisecond's work, or two."""

_CLOSING: Final = {"[": "]", "{": "}"}


def cut(items: Iterable[T], at_once: int = AT_ONCE) -> Iterator[list[T]]:
    """The items in pieces, after each of which there should be a pause. Nobody may change them meanwhile."""
    rest = iter(items)
    while piece := list(islice(rest, at_once)):
        yield piece


def parse(text: str, long: Collection[str]) -> Generator[None, None, Any]:
    """Like `json.loads`, but other work may be done whenever this yields.

    `long`: names whose values, wherever they occur, are parsed in pieces if they are lists or objects. A list
    becomes one of int; an object, whose names must be numbers too, a dict from int to int.

    Raises:
        ValueError, TypeError, OverflowError, LookupError: the text is something else.
    """
    # A quote that is escaped belongs to a string; any other one before a name and its colon begins the name.
    opening = re.compile(rf'(?<!\\)"(?:{"|".join(map(re.escape, long))})"\s*:\s*([\[{{])')
    short: list[str] = []
    cut_out: list[list[int] | dict[int, int]] = []
    done = 0
    while (begin := opening.search(text, done)) is not None:
        end = text.find(_CLOSING[begin[1]], begin.end())
        if end < 0:
            raise ValueError("a list does not end")
        short.append(f"{text[done : begin.start(1)]}[{len(cut_out)}]")
        cut_out.append((yield from _pieces(begin[1], text, begin.end(), end)))
        done = end + 1
    short.append(text[done:])

    def put_back(value: dict[str, Any]) -> dict[str, Any]:
        return {
            name: cut_out[one[0]] if name in long and isinstance(one, list) else one
            for name, one in value.items()
        }

    return json.loads("".join(short), object_hook=put_back)


def _pieces(kind: str, text: str, begin: int, end: int) -> Generator[None, None, list[int] | dict[int, int]]:
    """What lies between two brackets: numbers, or pairs of them, and no other brackets."""
    numbers: list[int] = []
    pairs: dict[int, int] = {}
    while begin < end:
        stop = text.find(",", begin + PIECE_CHARS, end)
        stop = end if stop < 0 else stop
        piece = json.loads(f"{kind}{text[begin:stop]}{_CLOSING[kind]}")
        if kind == "[":
            numbers.extend(map(int, piece))
        else:
            pairs.update(zip(map(int, piece), map(int, piece.values()), strict=True))
        begin = stop + 1
        yield
    return numbers if kind == "[" else pairs
