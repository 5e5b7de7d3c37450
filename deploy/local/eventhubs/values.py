"""The AMQP 1.0 types that Python has no type of its own for (specification part 1, section 1.6).

`None`, `bool`, `float` (double), `str`, `bytes`, `UUID`, `list` and `dict` stand for themselves; a plain
`int` is written as a long. The classes below keep what those would lose, so that decode and encode are
inverse. As dictionary keys they equal their Python base: a map that holds both the string and the symbol "a"
keeps only one of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID


class UByte(int):
    """An unsigned integer of 8 bits."""

    __slots__ = ()


class UShort(int):
    """An unsigned integer of 16 bits."""

    __slots__ = ()


class UInt(int):
    """An unsigned integer of 32 bits."""

    __slots__ = ()


class ULong(int):
    """An unsigned integer of 64 bits."""

    __slots__ = ()


class Byte(int):
    """A signed integer of 8 bits."""

    __slots__ = ()


class Short(int):
    """A signed integer of 16 bits."""

    __slots__ = ()


class Int(int):
    """A signed integer of 32 bits."""

    __slots__ = ()


class Long(int):
    """A signed integer of 64 bits."""

    __slots__ = ()


class Timestamp(int):
    """Milliseconds since 1970 UTC, signed, 64 bits."""

    __slots__ = ()


class Float32(float):
    """An IEEE 754 binary32; Python's float is a double."""

    __slots__ = ()


class Char(str):
    """One Unicode character."""

    __slots__ = ()


class Symbol(str):
    """ASCII from a constrained domain: names of capabilities, conditions, annotations."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class DecimalBits:
    """A decimal32, decimal64 or decimal128 (4, 8 or 16 bytes), carried and not interpreted."""

    bits: bytes


@dataclass(frozen=True, slots=True)
class Described:
    """A value with a descriptor that says what it means."""

    descriptor: Value
    value: Value


@dataclass(frozen=True, slots=True)
class Array:
    """Values that share the constructor `code`."""

    code: int
    values: tuple[Value, ...]


Value: TypeAlias = """(
    bool | int | float | str | bytes | UUID | DecimalBits | Described | Array
    | list[Value] | dict[Value, Value] | None
)"""
