"""AMQP values to bytes, in the shortest form, except that an empty list is a list of none.

The exception is for the SDK, which does not read the one-byte empty list as a performative. Values out of a
type's range raise `ValueError`, values of no AMQP type `TypeError`: both are this package's own mistakes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

from .constructors import (
    ARRAY_32,
    BINARY_8,
    BINARY_32,
    BOOLEAN,
    CHAR,
    DECIMALS,
    DESCRIBED,
    FALSE,
    INT_SMALL,
    LIST_8,
    LONG_SMALL,
    MAP_8,
    NULL,
    NUMBERS,
    STRING_8,
    STRING_32,
    SYMBOL_8,
    SYMBOL_32,
    TRUE,
    U8,
    U32,
    UINT_SMALL,
    UINT_ZERO,
    ULONG_SMALL,
    ULONG_ZERO,
    UUID_BYTES,
)
from .values import (
    Array,
    Byte,
    Char,
    DecimalBits,
    Described,
    Float32,
    Int,
    Long,
    Short,
    Symbol,
    Timestamp,
    UByte,
    UInt,
    ULong,
    UShort,
    Value,
)

_TO_32_BITS = 0x10
"""The distance between the 8-bit and the 32-bit form of every variable and compound constructor."""


def encode_value(value: Value) -> bytes:
    """The bytes of one value, constructor included."""
    try:
        write = _WRITERS[type(value)]
    except KeyError:
        raise TypeError(f"no AMQP type for {type(value).__name__}") from None
    try:
        return write(value)
    except struct.error as error:
        raise ValueError(f"{value!r} is out of range for {type(value).__name__}: {error}") from error


def _number(code: int) -> Callable[[Any], bytes]:
    pack = struct.Struct(">B" + NUMBERS[code][0].format.lstrip(">")).pack
    return partial(pack, code)


def _unsigned(zero: int, small: int, full: int) -> Callable[[Any], bytes]:
    write_full = _number(full)

    def write(value: int) -> bytes:
        if value == 0:
            return bytes((zero,))
        return bytes((small, value)) if 0 < value < 256 else write_full(value)

    return write


def _signed(small: int, full: int) -> Callable[[Any], bytes]:
    write_small, write_full = _number(small), _number(full)
    return lambda value: write_small(value) if -128 <= value < 128 else write_full(value)


def _variable(code: int, raw: bytes) -> bytes:
    if len(raw) < 256:
        return bytes((code, len(raw))) + raw
    return bytes((code + _TO_32_BITS,)) + U32.pack(len(raw)) + raw


def _compound(code: int, count: int, content: bytes) -> bytes:
    # The size counts the count's own width: one byte or four.
    if count < 256 and len(content) < 255:
        return bytes((code, len(content) + 1, count)) + content
    return bytes((code + _TO_32_BITS,)) + U32.pack(len(content) + 4) + U32.pack(count) + content


def _list(value: list[Value]) -> bytes:
    return _compound(LIST_8, len(value), b"".join(map(encode_value, value)))


def _map(value: dict[Value, Value]) -> bytes:
    content = b"".join(encode_value(key) + encode_value(item) for key, item in value.items())
    return _compound(MAP_8, 2 * len(value), content)


def _array(value: Array) -> bytes:
    content = bytes((value.code,)) + b"".join(_array_item(value.code, item) for item in value.values)
    return bytes((ARRAY_32,)) + U32.pack(len(content) + 4) + U32.pack(len(value.values)) + content


def _array_item(code: int, item: Any) -> bytes:
    """An item without constructor, in the form that the array's constructor prescribes."""
    if code in NUMBERS:
        number: bytes = NUMBERS[code][0].pack(item)
        return number
    if code in _LENGTHS:
        raw: bytes = item if isinstance(item, bytes) else item.encode("utf-8")
        return _LENGTHS[code].pack(len(raw)) + raw
    if code == BOOLEAN:
        return b"\x01" if item else b"\x00"
    # Whatever else may be an item is the same inside an array, its own constructor left out.
    return encode_value(item)[1:]


def _decimal(value: DecimalBits) -> bytes:
    code = next(code for code, width in DECIMALS.items() if width == len(value.bits))
    return bytes((code,)) + value.bits


_LENGTHS = {BINARY_8: U8, STRING_8: U8, SYMBOL_8: U8, BINARY_32: U32, STRING_32: U32, SYMBOL_32: U32}
# The keys fix the type of each argument, which a dictionary's type cannot express.
_WRITERS: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda _: bytes((NULL,)),
    bool: lambda value: bytes((TRUE if value else FALSE,)),
    UByte: _number(0x50),
    Byte: _number(0x51),
    UShort: _number(0x60),
    Short: _number(0x61),
    UInt: _unsigned(UINT_ZERO, UINT_SMALL, 0x70),
    ULong: _unsigned(ULONG_ZERO, ULONG_SMALL, 0x80),
    Int: _signed(INT_SMALL, 0x71),
    Long: _signed(LONG_SMALL, 0x81),
    int: _signed(LONG_SMALL, 0x81),
    Timestamp: _number(0x83),
    Float32: _number(0x72),
    float: _number(0x82),
    Char: lambda value: bytes((CHAR,)) + U32.pack(ord(value)),
    UUID: lambda value: bytes((UUID_BYTES,)) + value.bytes,
    bytes: lambda value: _variable(BINARY_8, value),
    str: lambda value: _variable(STRING_8, value.encode("utf-8")),
    Symbol: lambda value: _variable(SYMBOL_8, value.encode("ascii")),
    DecimalBits: _decimal,
    Described: lambda value: bytes((DESCRIBED,)) + encode_value(value.descriptor) + encode_value(value.value),
    Array: _array,
    list: _list,
    dict: _map,
}
