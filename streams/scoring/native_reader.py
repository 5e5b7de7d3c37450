"""The quick reader in C, where it was built: numbers straight to an array, no object for each (ADR 21).

Guarantees:
  what it reads, the readers in Python read alike, bit for bit; whatever is doubtful is left to them
  without the extension, or with FARSHORE_PURE_PYTHON=1 in the environment, they do all of it, only slower

The extension is optional: farshore installs where there is no compiler.
"""

import os
from array import array
from collections.abc import Sequence
from functools import cache
from typing import Final

import numpy as np

from ...schemas.manifest import EventMapping, Manifest
from ...schemas.records import TIME_MS_LIMIT
from .clean import CleanRows
from .pointer import Pointer

try:
    from . import _rows
except ImportError:
    _rows = None  # type: ignore[assignment]

__all__ = ["PURE_PYTHON", "NativeReader", "is_built", "native_reader"]

PURE_PYTHON: Final = "FARSHORE_PURE_PYTHON"
"""Set in the environment to anything but 0, it keeps the extension out of use."""

_DEVICE, _TIME = -2, -1
_TO_MS: Final = {"s": (1000, 1), "ms": (1, 1), "us": (1, 1_000), "ns": (1, 1_000_000)}
_DEPTH_MAX: Final = 32
_ESCAPED: Final = frozenset('"\\' + "".join(map(chr, range(0x20))))

_Layout = dict[str | None, object]


class NativeReader:
    """Reads one layout."""

    def __init__(self, manifest: Manifest, layout: _Layout) -> None:
        times, by = _TO_MS[manifest.event.time_unit]
        self._feature_count = len(manifest.features)
        from_key = manifest.event.device is None
        self._rows = _rows.RowReader(
            layout, self._feature_count, from_key, times, by, TIME_MS_LIMIT, _powers_of_ten()
        )

    def read(self, values: Sequence[bytes], keys: Sequence[bytes | None]) -> CleanRows | None:
        """See CleanReader."""
        numbers = np.empty(len(values) * self._feature_count)
        found = self._rows.read(values, keys, numbers)
        return None if found is None else CleanRows(*found, numbers)


def is_built() -> bool:
    """Whether the extension is there."""
    return _rows is not None


def native_reader(manifest: Manifest) -> NativeReader | None:
    """A reader for this package; None without the extension and for what it does not read.

    That is models that take whole numbers, which float64 may not hold, places in arrays, places one in the
    other, and names that JSON escapes.
    """
    spec = manifest.input
    whole = np.dtype(spec.dtype).kind in "iu" and spec.mean is None
    if not is_built() or os.environ.get(PURE_PYTHON, "0") not in {"", "0"} or whole:
        return None
    layout = _layout(manifest.event, manifest.features)
    return None if layout is None else NativeReader(manifest, layout)


def _layout(event: EventMapping, features: tuple[str, ...]) -> _Layout | None:
    """Dicts of members with numbers for features, time and device, as RowReader takes them."""
    layout: _Layout = {}
    places = [(Pointer(event.time), _TIME)]
    if event.device is not None:
        places.append((Pointer(event.device), _DEVICE))
    if isinstance(event.features, tuple):
        places += [(Pointer(text), number) for number, text in enumerate(event.features)]
    if not all(place.is_plain() and _enter(layout, place.tokens, kind) for place, kind in places):
        return None
    if isinstance(event.features, tuple):
        return layout
    container = Pointer(event.features)
    if event.features and not container.is_plain():
        return None
    # A feature's name is a member's even where it looks like an array's index.
    named: list[tuple[tuple[str | None, ...], int]]
    named = [((*container.tokens, name), number) for number, name in enumerate(features)]
    if event.features:
        named.append(((*container.tokens, None), 0))
    return layout if all(_enter(layout, tokens, kind) for tokens, kind in named) else None


def _enter(layout: _Layout, tokens: Sequence[str | None], kind: int) -> bool:
    """Whether the place could be entered: no other is in its way, and its names are as JSON writes them."""
    if not tokens or len(tokens) > _DEPTH_MAX or any(_ESCAPED.intersection(token or "") for token in tokens):
        return False
    for token in tokens[:-1]:
        below = layout.setdefault(token, {})
        if not isinstance(below, dict):
            return False
        layout = below
    if tokens[-1] in layout:
        return False
    layout[tokens[-1]] = kind
    return True


@cache
def _powers_of_ten() -> bytes:
    """For each power of ten: a mantissa of 128 bits, rounded down, its halves high and low, and its exponent.

    10**q = (mantissa + d) * 2**exponent with 0 <= d < 1.
    """
    table = bytearray()
    for power in range(_rows.POWER_MIN, _rows.POWER_MAX + 1):
        five = 5 ** abs(power)
        size = five.bit_length()
        if power < 0:
            mantissa, exponent = (1 << size + 127) // five, -size - 127
        else:
            mantissa, exponent = (five << 128) >> size, size - 128
        table += array("Q", [mantissa >> 64, mantissa & (1 << 64) - 1]).tobytes()
        table += array("q", [exponent + power]).tobytes()
    return bytes(table)
