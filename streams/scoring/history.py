"""The last readings and scores of a partition's devices, in arrays, gathered for many rows at once.

Readings stand in the order of their offsets; each knows how many places before it its device's previous one
stands, 0 for none. Following that W times for all rows of a batch gives the places of their windows, and one
indexing operation gives the windows.

Guarantees:
  what a row is given depends on its device's readings at offsets in (offset - lookback, offset] alone: not on
  how the log was cut into batches, on other devices, or on when something was dropped from memory
  memory <= 1.25 x (readings within the lookback + one batch), whatever the number of devices; a device costs
  a name and one number as long as one of its readings is held

Not guaranteed: anything for offsets that do not rise; whoever reads an offset again begins a new history.
"""

from collections.abc import Sequence
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from .inference import Tensor

__all__ = ["DeviceHistory", "reading_bytes"]

Indices = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.float64]
Array = TypeVar("Array", bound=Tensor)

_ROWS_MIN: Final = 1_024
_NEVER: Final = -1


def reading_bytes(feature_count: int, dtype: npt.DTypeLike) -> int:
    """Bytes of one reading with its score, its offset, its step and its device's newest number."""
    return feature_count * np.dtype(dtype).itemsize + 8 + 8 + 4 + 8


class DeviceHistory:
    """Readings of one partition. A reading's number counts from the first one ever appended."""

    def __init__(self, *, lookback_offsets: int, feature_count: int, dtype: npt.DTypeLike) -> None:
        self._lookback = lookback_offsets
        self._devices = _Devices()
        self._base = 0  # the number of the reading that stands first
        self._used = 0
        self._offsets = np.empty(_ROWS_MIN, np.int64)
        self._steps = np.empty(_ROWS_MIN, np.int32)
        self._scores = np.empty(_ROWS_MIN, np.float64)
        self._features: Tensor = np.empty((_ROWS_MIN, feature_count), dtype)

    @property
    def size_bytes(self) -> int:
        """Bytes of the arrays; names of devices come on top."""
        arrays = (self._offsets, self._steps, self._scores, self._features, self._devices.newest)
        return sum(array.nbytes for array in arrays)

    @property
    def device_count(self) -> int:
        """Devices with a reading that is still held."""
        return len(self._devices)

    def append(self, devices: Sequence[str], offsets: Indices, matrix: Tensor) -> int:
        """Add readings, `matrix` being (n, features); returns the number of the first. Scores are NaN yet."""
        count = len(devices)
        if count:
            self._make_room(count, int(offsets[0]))
        first = self._base + self._used
        place = slice(self._used, self._used + count)
        self._offsets[place] = offsets
        self._features[place] = matrix
        self._scores[place] = np.nan
        numbers = np.arange(first, first + count)
        previous = self._devices.previous(devices, numbers)
        # A step past what is held leads outside of the lookback anyway.
        self._steps[place] = np.where(previous >= self._base, numbers - previous, 0)
        self._used += count
        return first

    def windows(self, first: int, stop: int, length: int) -> tuple[Tensor, Mask]:
        """The last `length` (2 or more) readings of the devices of readings `first` to `stop`, oldest first.

        Shapes (n, length, features) and (n,): the mask says which windows are cold, that is held fewer
        readings and repeat the oldest one in front.
        """
        places = self._places(first, stop)
        floor = self._floor(places)
        chain = np.empty((length, len(places)), np.int64)
        chain[-1] = places
        moved = np.ones(len(places), np.bool_)
        for column in range(length - 2, -1, -1):
            places, moved = self._step(places, floor)
            chain[column] = places
        return self._features.take(np.ascontiguousarray(chain.T), axis=0), ~moved

    def put_scores(self, first: int, scores: Numbers) -> None:
        """Note the scores of readings from `first` on; what is not finite counts for no median."""
        place = first - self._base
        self._scores[place : place + len(scores)] = np.where(np.isfinite(scores), scores, np.nan)

    def medians(self, first: int, stop: int, length: int) -> Numbers:
        """Medians over the finite scores among each device's last `length` readings; NaN where none is.

        Of an even number of scores it is the mean of the two in the middle.
        """
        places = self._places(first, stop)
        floor = self._floor(places)
        values = np.full((len(places), length), np.nan)
        values[:, 0] = self._scores[places]
        for column in range(1, length):
            places, moved = self._step(places, floor)
            values[:, column] = np.where(moved, self._scores[places], np.nan)
        values.sort(axis=1)  # NaN last
        count = np.isfinite(values).sum(axis=1)
        rows = np.arange(len(values))
        # Halved before they are added: two large scores must not make an infinity. Adding 0.0 makes 0.0 of
        # -0.0, of which a sort may put either first.
        low = values[rows, np.maximum(count - 1, 0) // 2]
        high = values[rows, np.minimum(count // 2, length - 1)]
        medians: Numbers = low * 0.5 + high * 0.5 + 0.0
        return medians

    def _places(self, first: int, stop: int) -> Indices:
        return np.arange(first - self._base, stop - self._base)

    def _floor(self, places: Indices) -> Indices:
        """For each place the first one within its lookback."""
        offsets = self._offsets[: self._used]
        return np.searchsorted(offsets, offsets[places] - self._lookback, side="right").astype(np.int64)

    def _step(self, places: Indices, floor: Indices) -> tuple[Indices, Mask]:
        """One reading back, and for which rows there was one; the others stay."""
        steps = self._steps[places]
        before = places - steps
        moved = (steps > 0) & (before >= floor)
        return np.where(moved, before, places), moved

    def _make_room(self, count: int, offset: int) -> None:
        capacity = len(self._offsets)
        if self._used + count <= capacity:
            return
        start = int(np.searchsorted(self._offsets[: self._used], offset - self._lookback, side="right"))
        needed = self._used - start + count
        if needed > capacity * 4 // 5:
            # At least a fifth stays free, so that what a move costs is spread over as many readings.
            largest = (self._lookback + count) * 5 // 4
            capacity = max(needed * 5 // 4, min(capacity * 2, largest))
        self._offsets = _moved(self._offsets, start, self._used, capacity)
        self._steps = _moved(self._steps, start, self._used, capacity)
        self._scores = _moved(self._scores, start, self._used, capacity)
        self._features = _moved(self._features, start, self._used, capacity)
        self._base += start
        self._used -= start
        self._devices.forget_before(self._base)


def _moved(array: Array, start: int, stop: int, capacity: int) -> Array:
    """`array[start:stop]` at the front, of the same array where its length is `capacity`; then start > 0."""
    if len(array) != capacity:
        fresh = np.empty_like(array, shape=(capacity, *array.shape[1:]))
        fresh[: stop - start] = array[start:stop]
        return fresh
    # In pieces that do not overlap: NumPy would make a copy of the whole otherwise.
    for place in range(start, stop, start):
        end = min(place + start, stop)
        array[place - start : end - start] = array[place:end]
    return array


class _Devices:
    """A small number for each device's name, and by it the number of the device's newest reading."""

    def __init__(self) -> None:
        self._slots: dict[str, int] = {}
        self._names: list[str] = []
        self._free: list[int] = []
        self.newest = np.full(_ROWS_MIN, _NEVER, np.int64)

    def __len__(self) -> int:
        return len(self._slots)

    def previous(self, devices: Sequence[str], numbers: Indices) -> Indices:
        """The number of each reading's predecessor of the same device, or -1; `numbers` become the newest."""
        slots = self._slots_of(devices)
        if not len(slots):
            return numbers
        order = np.argsort(slots, kind="stable")
        sorted_slots, sorted_numbers = slots[order], numbers[order]
        same = np.empty(len(slots), np.bool_)  # as the one before it
        same[0] = False
        np.equal(sorted_slots[1:], sorted_slots[:-1], out=same[1:])
        before = np.roll(sorted_numbers, 1)
        previous = np.empty_like(numbers)
        previous[order] = np.where(same, before, self.newest[sorted_slots])
        last = np.append(~same[1:], True)
        self.newest[sorted_slots[last]] = sorted_numbers[last]
        return previous

    def forget_before(self, number: int) -> None:
        """Drop devices whose newest reading came before `number`."""
        gone = np.flatnonzero((self.newest < number) & (self.newest != _NEVER)).tolist()
        for slot in gone:
            del self._slots[self._names[slot]]
            self._names[slot] = ""
        self.newest[gone] = _NEVER
        self._free += gone

    def _slots_of(self, devices: Sequence[str]) -> Indices:
        known = self._slots
        try:
            return np.fromiter(map(known.__getitem__, devices), np.int64, len(devices))
        except KeyError:
            for device in devices:
                if device not in known:
                    known[device] = self._new_slot(device)
        return np.fromiter(map(known.__getitem__, devices), np.int64, len(devices))

    def _new_slot(self, device: str) -> int:
        if self._free:
            slot = self._free.pop()
            self._names[slot] = device
            return slot
        slot = len(self._names)
        self._names.append(device)
        if slot == len(self.newest):
            self.newest = np.append(self.newest, np.full(slot // 2, _NEVER, np.int64))
        return slot
