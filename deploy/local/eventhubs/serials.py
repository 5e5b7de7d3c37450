"""Serial numbers of 32 bits (RFC 1982), as AMQP counts deliveries and transfers: they wrap."""

from __future__ import annotations

_WRAP = 1 << 32


def add(number: int, steps: int) -> int:
    """The number `steps` (0 or more) after `number`."""
    return (number + steps) % _WRAP


def distance(later: int, earlier: int) -> int:
    """How far `later` lies after `earlier`, at most half the circle; negative if it lies before."""
    return (later - earlier + _WRAP // 2) % _WRAP - _WRAP // 2
