"""The constructor bytes of AMQP 1.0 and their layout: one table for the decoder and the encoder."""

from __future__ import annotations

import struct
from typing import Final

from .values import Byte, Float32, Int, Long, Short, Timestamp, UByte, UInt, ULong, UShort

DESCRIBED: Final = 0x00
NULL: Final = 0x40
TRUE: Final = 0x41
FALSE: Final = 0x42
UINT_ZERO: Final = 0x43
ULONG_ZERO: Final = 0x44
LIST_EMPTY: Final = 0x45
UINT_SMALL: Final = 0x52
ULONG_SMALL: Final = 0x53
INT_SMALL: Final = 0x54
LONG_SMALL: Final = 0x55
BOOLEAN: Final = 0x56
CHAR: Final = 0x73
UUID_BYTES: Final = 0x98
BINARY_8: Final = 0xA0
STRING_8: Final = 0xA1
SYMBOL_8: Final = 0xA3
BINARY_32: Final = 0xB0
STRING_32: Final = 0xB1
SYMBOL_32: Final = 0xB3
LIST_8: Final = 0xC0
MAP_8: Final = 0xC1
LIST_32: Final = 0xD0
MAP_32: Final = 0xD1
ARRAY_8: Final = 0xE0
ARRAY_32: Final = 0xF0

U8: Final = struct.Struct(">B")
U32: Final = struct.Struct(">I")

NUMBERS: Final[dict[int, tuple[struct.Struct, type[int] | type[float]]]] = {
    0x50: (U8, UByte),
    0x51: (struct.Struct(">b"), Byte),
    UINT_SMALL: (U8, UInt),
    ULONG_SMALL: (U8, ULong),
    INT_SMALL: (struct.Struct(">b"), Int),
    LONG_SMALL: (struct.Struct(">b"), Long),
    0x60: (struct.Struct(">H"), UShort),
    0x61: (struct.Struct(">h"), Short),
    0x70: (U32, UInt),
    0x71: (struct.Struct(">i"), Int),
    0x72: (struct.Struct(">f"), Float32),
    0x80: (struct.Struct(">Q"), ULong),
    0x81: (struct.Struct(">q"), Long),
    0x82: (struct.Struct(">d"), float),
    0x83: (struct.Struct(">q"), Timestamp),
}
"""Constructor → layout and Python type of every number with a fixed width."""

DECIMALS: Final = {0x74: 4, 0x84: 8, 0x94: 16}
"""Constructor → width in bytes."""

DEPTH_MAX: Final = 32
"""How deep values may nest; deeper ones are malformed, so that a peer cannot exhaust the stack."""

WIDTHLESS_ARRAY_MAX: Final = 65_536
"""Items of an array whose items take no bytes; the frame's size does not bound these."""
