"""JSON Pointers (RFC 6901), read once at start and followed once an event."""

from collections.abc import Callable
from functools import reduce
from operator import itemgetter
from typing import Final, cast

__all__ = ["MISSING", "Pointer", "siblings"]

MISSING: Final = object()
"""What `Pointer.follow` gives when nothing stands there; None is a JSON null."""


class Pointer:
    """One place in a JSON document."""

    __slots__ = ("text", "tokens")

    def __init__(self, text: str) -> None:
        self.text = text
        # ~1 before ~0, so that "~01" stays "~1" (RFC 6901, section 4).
        self.tokens = tuple(token.replace("~1", "/").replace("~0", "~") for token in text.split("/")[1:])

    def is_plain(self, *, named: bool = False) -> bool:
        """Whether every token names an object's member: one of digits may as well be an array's index.

        `named`: the last one is known to be a member's name.
        """
        tokens = self.tokens[:-1] if named else self.tokens
        return bool(self.tokens) and not any(token.isdigit() for token in tokens)

    def follow(self, document: object) -> object:
        """The value at this place, or MISSING."""
        for token in self.tokens:
            if isinstance(document, dict):
                document = document.get(token, MISSING)
            elif isinstance(document, list) and _is_index(token) and int(token) < len(document):
                document = document[int(token)]
            else:
                return MISSING
        return document

    def getter(self) -> Callable[[object], object]:
        """A quick reader for clean documents: raises KeyError, IndexError or TypeError where none stands.

        A token of digits is taken for an array index here; a document with such an object key makes the
        reader raise, and `follow` decides.
        """
        steps = [_element(int(token)) if _is_index(token) else _member(token) for token in self.tokens]
        if not steps:
            return lambda document: document
        if len(steps) == 1:
            return steps[0]
        return lambda document: reduce(lambda value, step: step(value), steps, document)


def siblings(places: tuple[Pointer, ...]) -> tuple[str | None, tuple[str, ...]]:
    """The pointer to the one object whose members `places` all are, and their names; None without one."""
    names = tuple(place.tokens[-1] for place in places if place.tokens)
    parents = {place.text.rpartition("/")[0] for place in places}
    if len(parents) != 1 or len(names) != len(places) or any(map(_is_index, names)):
        return None, names
    return parents.pop(), names


def _member(name: str) -> Callable[[object], object]:
    return cast(Callable[[object], object], itemgetter(name))  # in C, and raises where there is none


def _element(index: int) -> Callable[[object], object]:
    def step(value: object) -> object:
        # An index into a string would give a character where `follow` gives MISSING.
        if type(value) is not list:
            raise TypeError
        return value[index]

    return step


def _is_index(token: str) -> bool:
    return token.isascii() and token.isdigit() and str(int(token)) == token
