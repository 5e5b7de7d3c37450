"""Bytes to AMQP values.

Every length is checked against the bytes that are there, compound sizes against their content, and nesting
against `DEPTH_MAX`; whatever is wrong is a `DecodeError` and never another exception.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from uuid import UUID

from .constructors import (
    ARRAY_8,
    ARRAY_32,
    BINARY_8,
    BINARY_32,
    BOOLEAN,
    CHAR,
    DECIMALS,
    DEPTH_MAX,
    DESCRIBED,
    FALSE,
    LIST_8,
    LIST_32,
    LIST_EMPTY,
    MAP_8,
    MAP_32,
    NULL,
    NUMBERS,
    STRING_8,
    STRING_32,
    SYMBOL_8,
    SYMBOL_32,
    TRUE,
    U8,
    U32,
    UINT_ZERO,
    ULONG_ZERO,
    UUID_BYTES,
    WIDTHLESS_ARRAY_MAX,
)
from .errors import DecodeError
from .values import Array, Char, DecimalBits, Described, Symbol, UInt, ULong, Value


def decode_value(data: bytes, position: int = 0) -> tuple[Value, int]:
    """The value that starts at `position`, and the position after it.

    Raises `DecodeError`.
    """
    try:
        return _value(data, position, 0)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise DecodeError(f"malformed value at byte {position}: {error}") from error
    except (TypeError, OverflowError) as error:
        # TypeError: a list or map as the key of a map. OverflowError: a char beyond Unicode.
        raise DecodeError(f"unusable value at byte {position}: {error}") from error


def _value(data: bytes, position: int, depth: int) -> tuple[Value, int]:
    code = data[position]
    if code == DESCRIBED:
        if depth >= DEPTH_MAX:
            raise DecodeError("values nest too deep")
        descriptor, position = _value(data, position + 1, depth + 1)
        value, position = _value(data, position, depth + 1)
        return Described(descriptor, value), position
    return _body(code, data, position + 1, depth)


def _body(code: int, data: bytes, position: int, depth: int) -> tuple[Value, int]:
    """The value after its constructor; items of an array have only this part."""
    if code in _WIDTHLESS:
        return ([] if code == LIST_EMPTY else _WIDTHLESS[code]), position
    if code in NUMBERS:
        layout, kind = NUMBERS[code]
        return kind(layout.unpack_from(data, position)[0]), position + layout.size
    if code in _VARIABLE:
        layout, make = _VARIABLE[code]
        start = position + layout.size
        end = start + layout.unpack_from(data, position)[0]
        return make(_slice(data, start, end)), end
    if code in _COMPOUND:
        if depth >= DEPTH_MAX:
            raise DecodeError("values nest too deep")
        return _compound(code, data, position, depth + 1)
    if code in DECIMALS:
        end = position + DECIMALS[code]
        return DecimalBits(_slice(data, position, end)), end
    if code == BOOLEAN:
        return data[position] == 1, position + 1
    if code == UUID_BYTES:
        return UUID(bytes=_slice(data, position, position + 16)), position + 16
    if code == CHAR:
        point = U32.unpack_from(data, position)[0]
        if point > 0x10FFFF or 0xD800 <= point <= 0xDFFF:
            raise DecodeError(f"{point:#x} is no Unicode character")
        return Char(chr(point)), position + 4
    raise DecodeError(f"there is no constructor {code:#04x}")


def _compound(code: int, data: bytes, position: int, depth: int) -> tuple[Value, int]:
    layout = _COMPOUND[code]
    size = layout.unpack_from(data, position)[0]
    count = layout.unpack_from(data, position + layout.size)[0]
    end = position + layout.size + size
    if end > len(data):
        raise DecodeError("a compound value is longer than its frame")
    position += 2 * layout.size
    value: Value
    if code in (LIST_8, LIST_32):
        items, position = _items(data, position, count, depth)
        value = items
    elif code in (MAP_8, MAP_32):
        if count % 2:
            raise DecodeError("a map has a key without a value")
        items, position = _items(data, position, count, depth)
        value = dict(zip(items[::2], items[1::2], strict=True))
    else:
        value, position = _array(data, position, count, depth)
    if position != end:
        raise DecodeError("a compound value's size contradicts its content")
    return value, end


def _items(data: bytes, position: int, count: int, depth: int) -> tuple[list[Value], int]:
    if count > len(data) - position:
        raise DecodeError("a compound value has more items than bytes")
    items: list[Value] = []
    for _ in range(count):
        value, position = _value(data, position, depth)
        items.append(value)
    return items, position


def _array(data: bytes, position: int, count: int, depth: int) -> tuple[Array, int]:
    code = data[position]
    position += 1
    if code in _COMPOUND or code in (DESCRIBED, LIST_EMPTY):
        raise DecodeError("arrays of described or compound values are not supported")
    if count > (WIDTHLESS_ARRAY_MAX if code in _WIDTHLESS else len(data) - position):
        raise DecodeError("an array has more items than bytes")
    values: list[Value] = []
    for _ in range(count):
        value, position = _body(code, data, position, depth)
        values.append(value)
    return Array(code, tuple(values)), position


def _slice(data: bytes, start: int, end: int) -> bytes:
    if end > len(data):
        raise DecodeError("a value is longer than its frame")
    return data[start:end]


def _string(raw: bytes) -> str:
    return raw.decode("utf-8")


def _symbol(raw: bytes) -> Symbol:
    return Symbol(raw.decode("ascii"))


_WIDTHLESS: dict[int, Value] = {
    NULL: None,
    TRUE: True,
    FALSE: False,
    UINT_ZERO: UInt(0),
    ULONG_ZERO: ULong(0),
    LIST_EMPTY: None,  # a new list each time, made where it is read
}
_VARIABLE: dict[int, tuple[struct.Struct, Callable[[bytes], Value]]] = {
    BINARY_8: (U8, bytes),
    BINARY_32: (U32, bytes),
    STRING_8: (U8, _string),
    STRING_32: (U32, _string),
    SYMBOL_8: (U8, _symbol),
    SYMBOL_32: (U32, _symbol),
}
_COMPOUND = {LIST_8: U8, LIST_32: U32, MAP_8: U8, MAP_32: U32, ARRAY_8: U8, ARRAY_32: U32}
