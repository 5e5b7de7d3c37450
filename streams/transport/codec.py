"""aiokafka's request and response schemas, compiled: one call of `struct` for a run of fields of fixed size.

aiokafka codes field by field, each in three calls or more. At small loads, where a fetch brings a few events
of a few partitions, that was a quarter of all the calls a worker made. Compiled are the two requests that a
worker makes all the time, their answers, and the header in front of them.

Guarantee: the same bytes, the same values, a ValueError for what does not fit or ends too early.
"""

import io
import struct
from collections.abc import Callable, Iterable, Sequence
from itertools import starmap
from typing import Any, Final

from aiokafka.protocol.api import RequestHeader_v1
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.struct import Struct
from aiokafka.protocol.types import (
    Array,
    Boolean,
    Bytes,
    Float64,
    Int8,
    Int16,
    Int32,
    Int64,
    Schema,
    String,
    UInt32,
)

__all__ = ["compile_hot_schemas", "compile_schema"]

# What a field holds is anything that Kafka's protocol can say, hence Any below.
Write = Callable[[Sequence[Any], list[bytes]], None]
"""Appends the bytes of some of an item's fields."""
Read = Callable[[bytes, int, list[Any]], int]
"""Appends the values of some fields, which begin at a position; returns where the next one begins."""

_FORMATS: Final = {Int8: "b", Int16: "h", Int32: "i", UInt32: "I", Int64: "q", Float64: "d", Boolean: "?"}
_LENGTH_16: Final = struct.Struct(">h")
_LENGTH_32: Final = struct.Struct(">i")
_COMPILED_BYTES_MAX: Final = 65_536
"""A longer answer is mostly records, and aiokafka's way copies them once less."""


def compile_hot_schemas() -> None:
    """Have every aiokafka client of this process code fetches and produce requests by compiled schemas."""
    compile_schema(RequestHeader_v1)
    for request in (FetchRequest, ProduceRequest):
        newest = request._CLASSES[-1]
        compile_schema(newest)
        compile_schema(newest.RESPONSE_TYPE)


def compile_schema(cls: type[Struct]) -> None:
    """Replace `encode` and `decode` of a class by ones made for its schema."""
    names, writes, reads = cls.SCHEMA.names, _writes(cls.SCHEMA.fields), _reads(cls.SCHEMA.fields)
    decode_by_field = cls.decode

    def encode(self: Struct) -> bytes:
        fields, parts = self.__dict__, list[bytes]()
        values = [fields[name] for name in names]
        try:
            for write in writes:
                write(values, parts)
        except struct.error as error:
            raise ValueError(f"{cls.__name__}: {error} in {values!r:.200}") from error
        return b"".join(parts)

    def decode(_: type[Struct], data: io.BytesIO | bytes) -> Struct:
        if not isinstance(data, bytes):
            start = data.tell()
            if data.seek(0, io.SEEK_END) - start > _COMPILED_BYTES_MAX:
                data.seek(start)
                return decode_by_field(data)
            data.seek(start)
            data = data.read()
        values = list[Any]()
        position = 0
        try:
            for read in reads:
                position = read(data, position, values)
        except struct.error as error:
            raise ValueError(f"{cls.__name__}: {error} at byte {position} of {len(data)}") from error
        return cls(*values)

    # By name: a method of a class is not to be assigned, as types have it.
    setattr(cls, "encode", encode)  # noqa: B010
    setattr(cls, "decode", classmethod(decode))  # noqa: B010


def _runs(fields: Sequence[Any]) -> Iterable[tuple[int, int, str | None]]:
    """Start and stop of each run of fixed fields with its format, and of each other field with None."""
    start = 0
    while start < len(fields):
        stop, form = start, ">"
        while stop < len(fields) and fields[stop] in _FORMATS:
            form += _FORMATS[fields[stop]]
            stop += 1
        yield (start, stop, form) if stop > start else (start, start + 1, None)
        start = max(stop, start + 1)


def _fields_of(array: Array) -> Sequence[Any]:
    return array.array_of.fields if isinstance(array.array_of, Schema) else (array.array_of,)


def _fixed(fields: Sequence[Any]) -> struct.Struct | None:
    """All of these fields at once, if they are of fixed size."""
    forms = [_FORMATS.get(field) if isinstance(field, type) else None for field in fields]
    return None if None in forms else struct.Struct(">" + "".join(filter(None, forms)))


# -- writing


def _writes(fields: Sequence[Any]) -> list[Write]:
    return [
        _write_one(fields[start], start) if form is None else _write_run(struct.Struct(form), start, stop)
        for start, stop, form in _runs(fields)
    ]


def _write_run(run: struct.Struct, start: int, stop: int) -> Write:
    pack = run.pack

    def write(values: Sequence[Any], parts: list[bytes]) -> None:
        parts.append(pack(*values[start:stop]))

    return write


def _write_one(field: Any, index: int) -> Write:
    if isinstance(field, Array):
        return _write_array(field, index)
    if isinstance(field, String):
        return _write_text(field.encoding, index)
    if field is Bytes:
        return _write_bytes(index)
    raise TypeError(f"a field of {field!r} is not compiled")


def _write_text(encoding: str, index: int) -> Write:
    def write(values: Sequence[Any], parts: list[bytes]) -> None:
        if values[index] is None:
            parts.append(_LENGTH_16.pack(-1))
            return
        text = str(values[index]).encode(encoding)
        parts += (_LENGTH_16.pack(len(text)), text)

    return write


def _write_bytes(index: int) -> Write:
    def write(values: Sequence[Any], parts: list[bytes]) -> None:
        content = values[index]
        if content is None:
            parts.append(_LENGTH_32.pack(-1))
        else:
            parts += (_LENGTH_32.pack(len(content)), content)

    return write


def _write_array(array: Array, index: int) -> Write:
    fields = _fields_of(array)
    plain = not isinstance(array.array_of, Schema)
    rows, writes = _fixed(fields), _writes(fields)

    def write(values: Sequence[Any], parts: list[bytes]) -> None:
        items = values[index]
        if items is None:
            parts.append(_LENGTH_32.pack(-1))
            return
        parts.append(_LENGTH_32.pack(len(items)))
        if plain:
            items = [(item,) for item in items]
        if rows is not None:
            parts += starmap(rows.pack, items)
            return
        for item in items:
            if len(item) != len(fields):
                raise ValueError("Item field count does not match Schema")
            for write_part in writes:
                write_part(item, parts)

    return write


# -- reading


def _reads(fields: Sequence[Any]) -> list[Read]:
    return [
        _read_one(fields[start]) if form is None else _read_run(struct.Struct(form))
        for start, _, form in _runs(fields)
    ]


def _read_run(run: struct.Struct) -> Read:
    unpack, size = run.unpack_from, run.size

    def read(data: bytes, start: int, values: list[Any]) -> int:
        values += unpack(data, start)
        return start + size

    return read


def _read_one(field: Any) -> Read:
    if isinstance(field, Array):
        return _read_array(field)
    if isinstance(field, String):
        return _read_text(field.encoding)
    if field is Bytes:
        return _read_bytes
    raise TypeError(f"a field of {field!r} is not compiled")


def _slice(data: bytes, start: int, stop: int) -> bytes:
    if stop > len(data):
        raise ValueError(f"Buffer underrun: {stop} bytes expected, {len(data)} there")
    return data[start:stop]


def _read_text(encoding: str) -> Read:
    def read(data: bytes, start: int, values: list[Any]) -> int:
        (length,) = _LENGTH_16.unpack_from(data, start)
        stop = start + 2 + max(0, length)
        values.append(None if length < 0 else _slice(data, start + 2, stop).decode(encoding))
        return int(stop)

    return read


def _read_bytes(data: bytes, start: int, values: list[Any]) -> int:
    (length,) = _LENGTH_32.unpack_from(data, start)
    stop = start + 4 + max(0, length)
    values.append(None if length < 0 else _slice(data, start + 4, stop))
    return int(stop)


def _read_array(array: Array) -> Read:
    fields = _fields_of(array)
    plain = not isinstance(array.array_of, Schema)
    rows, reads = _fixed(fields), _reads(fields)

    def read(data: bytes, start: int, values: list[Any]) -> int:
        (length,) = _LENGTH_32.unpack_from(data, start)
        position = start + 4
        if length == -1:
            values.append(None)
            return position
        items: list[Any]
        if rows is not None:
            stop = position + max(0, length) * rows.size
            items = list(rows.iter_unpack(_slice(data, position, stop)))
            position = stop
        else:
            items = []
            for _ in range(length):
                item: list[Any] = []
                for read_part in reads:
                    position = read_part(data, position, item)
                items.append(tuple(item))
        values.append([item for (item,) in items] if plain else items)
        return position

    return read
