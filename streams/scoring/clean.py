"""What a quick reader gives for a clean batch, and the contract of such a reader."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, cast

import numpy as np
import numpy.typing as npt

from ...schemas.records import TIME_MS_LIMIT
from .eventtime import epoch_ms

__all__ = [
    "DEVICE_LENGTH_MAX",
    "CleanReader",
    "CleanRows",
    "Numbers",
    "as_list",
    "clean_devices",
    "clean_times",
]

DEVICE_LENGTH_MAX: Final = 256
"""Characters of a device name; the records' schema says the same."""

Numbers = Sequence[float] | npt.NDArray[np.float64]
"""Features of many rows, flat and row by row, as the JSON gave them."""


@dataclass(frozen=True, slots=True)
class CleanRows:
    """Every event of a batch: `numbers` holds rows times features values."""

    devices: list[str]
    times_ms: list[int]
    numbers: Numbers


def as_list(numbers: Numbers) -> list[float]:
    """The same numbers as Python's own."""
    return numbers.tolist() if isinstance(numbers, np.ndarray) else list(numbers)


class CleanReader(Protocol):
    """Reads a whole batch at once, or not at all."""

    def read(self, values: Sequence[bytes], keys: Sequence[bytes | None]) -> CleanRows | None:
        """All of `values`, which is not empty, or None when anything in it needs a closer look.

        Whether an event is accepted must not depend on those beside it.
        """


def clean_devices(found: Sequence[object]) -> bool:
    """Whether all of `found` are names of devices."""
    if set(map(type, found)) != {str}:
        return False
    names = cast(Sequence[str], found)
    return "" not in names and max(map(len, names)) <= DEVICE_LENGTH_MAX


def clean_times(found: list[object], unit: str) -> list[int] | None:
    """`found` in epoch milliseconds, None when one is out of range; raises ValueError for what is no time."""
    if unit != "ms" or set(map(type, found)) != {int}:
        return [epoch_ms(value, unit) for value in found]
    times = cast(list[int], found)
    return times if min(times) >= 0 and max(times) < TIME_MS_LIMIT else None
