"""The quick reader for floating-point models: msgspec decodes straight into the types that the layout asks.

One pass over a batch checks JSON and types and makes one object an event, or two. A batch whose values hold
no newline and meet as `}`, newline, `{` is decoded in one call, as newline-delimited JSON: that sequence can
lie inside no JSON value, so every value yields at least one document, and as many documents as values means
one each. No value can swallow its neighbour or pass for two. Other batches are decoded value by value.

msgspec does not look at the UTF-8 of members it skips; that is checked here.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from operator import attrgetter, itemgetter
from typing import Annotated, Final, cast

import msgspec
import numpy as np

from ...schemas.manifest import Manifest
from .clean import CleanRows, clean_devices, clean_times
from .pointer import Pointer

__all__ = ["TypedReader", "typed_reader"]

_FEATURES_MAX: Final = 4_096
"""Beyond it the types themselves would cost more than they save."""

_LONG_VALUE_BYTES: Final = 8_192
_DIGITS_ALIKE: Final = bytes.maketrans(b"123456789", b"0" * 9)
_LONG_RUN: Final = b"0" * (_LONG_VALUE_BYTES // 2)

_ESCAPED: Final = re.compile(r'["\\\x00-\x1f]')

_first_byte: Final = itemgetter(0)
_last_byte: Final = itemgetter(-1)
_NEWLINE: Final = ord("\n")
_OPENING: Final = {ord("{")}
_CLOSING: Final = {ord("}")}

_Row = Callable[[object], Iterable[float]]


class TypedReader:
    """Reads one layout, in one or two forms: features by name, and, for one place, in order."""

    def __init__(self, manifest: Manifest, forms: "list[_Form]") -> None:
        self._forms = forms
        self._time_unit = manifest.event.time_unit
        self._feature_count = len(manifest.features)

    def read(self, values: Sequence[bytes], keys: Sequence[bytes | None]) -> CleanRows | None:
        """See CleanReader."""
        if b"" in values or _has_long_number(values):
            return None
        joined = b"\n".join(values)
        # Each newline is a boundary, and at each boundary one object ends and the next begins.
        as_lines = (
            _newlines(joined) == len(values) - 1
            and set(map(_first_byte, values)) == _OPENING
            and set(map(_last_byte, values)) == _CLOSING
        )
        try:
            if not joined.isascii():
                joined.decode()
        except UnicodeDecodeError:
            return None
        for form in self._forms:
            rows = self._read(form, joined if as_lines else None, values, keys)
            if rows is not None:
                # Producers keep to one form; the one that fits is tried first from now on.
                if form is not self._forms[0]:
                    self._forms.reverse()
                return rows
        return None

    def _read(
        self, form: "_Form", lines: bytes | None, values: Sequence[bytes], keys: Sequence[bytes | None]
    ) -> CleanRows | None:
        count = len(values)
        try:
            if lines is None:
                events = list(map(form.decoder.decode, values))
            else:
                events = form.decoder.decode_lines(lines)
                if len(events) != count:
                    return None
            devices: list[object]
            if form.device is None:
                devices = [cast(bytes, key).decode() for key in keys]
            else:
                devices = list(map(form.device, events))
            times = clean_times(list(map(form.time, events)), self._time_unit)
            numbers = np.fromiter(
                chain.from_iterable(map(form.row, events)), np.float64, count * self._feature_count
            )
        except (msgspec.MsgspecError, ValueError, AttributeError, RecursionError):
            return None
        if times is None or not clean_devices(devices):
            return None
        return CleanRows(cast(list[str], devices), times, numbers)


def _has_long_number(values: Sequence[bytes]) -> bool:
    """Whether there may be a number that msgspec reads wrongly: it does with some 10,000 digits and more.

    Such a number has a run of at least half as many, before or behind its point.
    """
    return any(
        len(value) > _LONG_VALUE_BYTES and _LONG_RUN in value.translate(_DIGITS_ALIKE) for value in values
    )


def _newlines(text: bytes) -> int:
    """bytes.count(b"\\n"), which goes byte by byte, six times as fast."""
    return int(np.count_nonzero(np.frombuffer(text, np.uint8) == _NEWLINE))


class _Form:
    """Types for one form of the layout, and how to get at the parts of a decoded event."""

    def __init__(self, root: "_Node", device: str | None, time: str, row: _Row) -> None:
        self.decoder: msgspec.json.Decoder[object] = msgspec.json.Decoder(root.struct("Event"))
        self.device = attrgetter(device) if device is not None else None
        self.time = attrgetter(time)
        self.row = row


class _Node:
    """An object in the layout: members by their JSON name, each a type or an object again."""

    def __init__(self) -> None:
        self.members: dict[str, object] = {}

    def place(self, pointer: Pointer, kind: object) -> str | None:
        """Enter a typed place; its dotted attribute path, or None when msgspec cannot have it.

        That is so when another place is in the way, or when a member's name holds what JSON escapes.
        """
        if any(_ESCAPED.search(token) for token in pointer.tokens):
            return None
        node, path = self, []
        for token in pointer.tokens[:-1]:
            path.append(node.attribute(token))
            below = node.members.setdefault(token, _Node())
            if not isinstance(below, _Node):
                return None
            node = below
        last = pointer.tokens[-1]
        if last in node.members:
            return None
        path.append(node.attribute(last))
        node.members[last] = kind
        return ".".join(path)

    def attribute(self, token: str) -> str:
        """The attribute that stands for a member: its number, since names may be anything."""
        names = list(self.members)
        return f"m{names.index(token) if token in self.members else len(names)}"

    def struct(self, name: str) -> type:
        """The msgspec type of this object. Without garbage collection: such trees hold no cycles."""
        fields = [
            (
                f"m{number}",
                member.struct(f"{name}{number}") if isinstance(member, _Node) else member,
                msgspec.field(name=token),
            )
            for number, (token, member) in enumerate(self.members.items())
        ]
        return msgspec.defstruct(name, fields, gc=False)


def typed_reader(manifest: Manifest) -> TypedReader | None:
    """A reader for this package; None for what types cannot say: array places, whole numbers, overlaps, …"""
    spec = manifest.input
    whole = np.dtype(spec.dtype).kind in "iu" and spec.mean is None
    if whole or len(manifest.features) > _FEATURES_MAX:
        return None
    forms: list[_Form | None]
    if isinstance(manifest.event.features, tuple):
        forms = [_by_place(manifest)]
    elif manifest.event.features == "":
        forms = [_by_name(manifest)]  # an event is an object, never an array
    else:
        forms = [_by_name(manifest), _in_order(manifest)]
    built = [form for form in forms if form is not None]
    return TypedReader(manifest, built) if len(built) == len(forms) else None


def _head(manifest: Manifest) -> tuple[_Node, str | None, str] | None:
    """A root with device and time in it, and where they are; None when they cannot be typed."""
    root = _Node()
    device = None
    texts = [manifest.event.time] + ([manifest.event.device] if manifest.event.device is not None else [])
    if any(not Pointer(text).is_plain() for text in texts):
        return None
    time = root.place(Pointer(manifest.event.time), int | float | str)
    if manifest.event.device is not None:
        device = root.place(Pointer(manifest.event.device), str)
        if device is None:
            return None
    return None if time is None else (root, device, time)


def _by_place(manifest: Manifest) -> _Form | None:
    return _at_places(manifest, [Pointer(text) for text in manifest.event.features])


def _by_name(manifest: Manifest) -> _Form | None:
    parent = cast(str, manifest.event.features)
    escaped = [name.replace("~", "~0").replace("/", "~1") for name in manifest.features]
    return _at_places(manifest, [Pointer(f"{parent}/{name}") for name in escaped], named=True)


def _at_places(manifest: Manifest, places: list[Pointer], *, named: bool = False) -> _Form | None:
    head = _head(manifest)
    # The last token of a named feature is a member's name even where it looks like an index.
    if head is None or not all(place.is_plain(named=named) for place in places):
        return None
    root, device, time = head
    paths = [root.place(place, float) for place in places]
    if None in paths:
        return None
    return _Form(root, device, time, _row_of(root, places, cast(list[str], paths)))


def _row_of(root: _Node, places: list[Pointer], paths: list[str]) -> _Row:
    parents = {path.rpartition(".")[0] for path in paths}
    parent = parents.pop()
    if not parents and parent and len(_members(root, places[0])) == len(paths):
        # An object that holds the features and nothing else: its fields are the row.
        get, as_tuple = attrgetter(parent), msgspec.structs.astuple
        return lambda event: as_tuple(get(event))
    if len(paths) == 1:
        only = attrgetter(paths[0])
        return lambda event: (only(event),)
    return cast(_Row, attrgetter(*paths))


def _members(root: _Node, place: Pointer) -> dict[str, object]:
    node = root
    for token in place.tokens[:-1]:
        node = cast(_Node, node.members[token])
    return node.members


def _in_order(manifest: Manifest) -> _Form | None:
    head = _head(manifest)
    place = Pointer(cast(str, manifest.event.features))
    if head is None or not place.tokens or not place.is_plain():
        return None
    root, device, time = head
    count = len(manifest.features)
    row = Annotated[list[float], msgspec.Meta(min_length=count, max_length=count)]
    path = root.place(place, row)
    return None if path is None else _Form(root, device, time, cast(_Row, attrgetter(path)))
