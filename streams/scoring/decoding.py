"""Raw event values to a matrix of features: a fast path for clean batches, a careful path for the rest.

Guarantees:
  accepted rows + rejections = values given, each position in exactly one of them, both in input order
  the two paths agree: a batch the fast path takes gives what the careful path gives (tests compare them)
  every accepted feature is a JSON number that the model's input holds; nothing is converted silently:
  NumPy would make 1 of true, 71.3 of "71.3", NaN of null and infinity of 1e39, so types come first
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

import numpy as np
import numpy.typing as npt

from ...schemas.manifest import Manifest
from ...schemas.reasons import DeadLetterReason
from .clean import DEVICE_LENGTH_MAX, CleanReader, Numbers, as_list
from .codec import NotJsonError, decode
from .eventtime import BadTimeError, epoch_ms
from .features import FeatureTensor
from .generic_reader import GenericReader
from .native_reader import native_reader
from .pointer import MISSING, Pointer
from .typed_reader import typed_reader

__all__ = ["Decoded", "EventDecoder", "Rejection"]

_NUMBERS: Final = {int, float}
_PART_OBJECTS: Final = 32_768
"""Made of one part at most: they stay in the processor's cache until they are a matrix."""
_ROW_OBJECTS: Final = 16
"""What an event costs beside its features, in objects of their size."""
_PIECE_ROWS: Final = 32

Value = bytes | None


@dataclass(frozen=True, slots=True)
class Rejection:
    """One event that cannot be scored: its position in the batch, and why."""

    index: int
    reason: DeadLetterReason
    detail: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """The accepted events of a batch.

    `indices` are their positions in the batch; `numbers` holds their features flat and row by row, as the
    JSON gave them; `matrix` is the same scaled and in the model's dtype, of shape (rows, features).
    """

    indices: Sequence[int]
    devices: list[str]
    times_ms: list[int]
    numbers: Numbers
    matrix: npt.NDArray[np.generic]
    rejections: list[Rejection]

    def from_row(self, start: int) -> "Decoded":
        """The same without the rows before `start`; rejections stay."""
        if start == 0:
            return self
        per_row = len(self.numbers) // max(1, len(self.devices))
        return Decoded(
            self.indices[start:],
            self.devices[start:],
            self.times_ms[start:],
            self.numbers[start * per_row :],
            self.matrix[start:],
            self.rejections,
        )

    def part(self, start: int, stop: int) -> "Decoded":
        """What stands at positions `start` to `stop` of the batch, as if nothing had stood beside it."""
        clean = isinstance(self.indices, range)
        first, end = (start, stop) if clean else (bisect_left(self.indices, at) for at in (start, stop))
        per_row = len(self.numbers) // max(1, len(self.devices))
        return Decoded(
            range(stop - start) if clean else [index - start for index in self.indices[first:end]],
            self.devices[first:end],
            self.times_ms[first:end],
            self.numbers[first * per_row : end * per_row],
            self.matrix[first:end],
            [
                Rejection(rejection.index - start, rejection.reason, rejection.detail)
                for rejection in self.rejections
                if start <= rejection.index < stop
            ],
        )

    def readings_of(self, row: int, features: tuple[str, ...]) -> dict[str, float]:
        """The features of one accepted event by name."""
        start = row * len(features)
        return dict(zip(features, as_list(self.numbers[start : start + len(features)]), strict=True))


class _RejectedError(Exception):
    def __init__(self, reason: DeadLetterReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class EventDecoder:
    """Decodes batches of events in the layout that the package describes."""

    def __init__(self, manifest: Manifest, *, event_bytes_max: int) -> None:
        self._features = manifest.features
        self._tensor = FeatureTensor(manifest.input, len(manifest.features))
        self._event_bytes_max = event_bytes_max
        self.part_rows = max(_PIECE_ROWS, _PART_OBJECTS // (len(manifest.features) + _ROW_OBJECTS))
        event = manifest.event
        self._device = None if event.device is None else Pointer(event.device)
        self._time = Pointer(event.time)
        self._time_unit = event.time_unit
        where = event.features
        self._container = Pointer(where) if isinstance(where, str) else None
        self._places = () if isinstance(where, str) else tuple(Pointer(text) for text in where)
        in_c = native_reader(manifest)
        self._readers: list[CleanReader] = [] if in_c is None else [in_c]
        self._readers.append(typed_reader(manifest) or GenericReader(manifest))

    @property
    def reader_names(self) -> tuple[str, ...]:
        """Who is asked for a clean batch, in this order."""
        return tuple(type(reader).__name__ for reader in self._readers)

    def decode(self, values: Sequence[Value], keys: Sequence[Value]) -> Decoded:
        """All of `values`; `keys` are the Kafka keys at the same positions."""
        if not values:
            return self.decode_carefully(values, keys)
        rows = self.part_rows
        starts = range(0, len(values), rows)
        parts = [
            self._decode_part(values[start : start + rows], keys[start : start + rows]) for start in starts
        ]
        return parts[0] if len(parts) == 1 else _joined(parts, starts)

    def _decode_part(self, values: Sequence[Value], keys: Sequence[Value]) -> Decoded:
        decoded = self.decode_clean(values, keys)
        if decoded is not None:
            return decoded
        # One bad event must not slow down the hundreds beside it: only its own piece goes the careful way.
        starts = range(0, len(values), _PIECE_ROWS)
        pieces = [
            self._decode_piece(values[start : start + _PIECE_ROWS], keys[start : start + _PIECE_ROWS])
            for start in starts
        ]
        return _joined(pieces, starts)

    def _decode_piece(self, values: Sequence[Value], keys: Sequence[Value]) -> Decoded:
        decoded = self.decode_clean(values, keys)
        return decoded if decoded is not None else self.decode_carefully(values, keys)

    def decode_clean(self, values: Sequence[Value], keys: Sequence[Value]) -> Decoded | None:
        """The whole batch at once, or None when anything in it needs a closer look."""
        if not values or None in values:
            return None
        present = cast(Sequence[bytes], values)
        if max(map(len, present)) > self._event_bytes_max:
            return None
        found = (reader.read(present, keys) for reader in self._readers)
        rows = next((rows for rows in found if rows is not None), None)
        matrix = None if rows is None else self._tensor.matrix(rows.numbers)
        if rows is None or matrix is None:
            return None
        return Decoded(range(len(values)), rows.devices, rows.times_ms, rows.numbers, matrix, [])

    def decode_carefully(self, values: Sequence[Value], keys: Sequence[Value]) -> Decoded:
        """Event by event, with the reason for each one refused."""
        indices: list[int] = []
        devices: list[str] = []
        times: list[int] = []
        numbers: list[float] = []
        rejections: list[Rejection] = []
        for index, (value, key) in enumerate(zip(values, keys, strict=True)):
            alone = self.decode_clean([value], [key])
            if alone is not None:
                # The quick reader decides first here too: no event is judged by the company it keeps.
                indices.append(index)
                devices += alone.devices
                times += alone.times_ms
                numbers += as_list(alone.numbers)
                continue
            try:
                document = self._document(value)
                device = self._device_of(document, key)
                time_ms = self._time_of(document)
                row = self._row_of(document)
            except _RejectedError as rejected:
                rejections.append(Rejection(index, rejected.reason, rejected.detail))
            else:
                indices.append(index)
                devices.append(device)
                times.append(time_ms)
                numbers += row
        matrix = self._tensor.matrix(numbers) if numbers else self._tensor.empty()
        assert matrix is not None, "each row was checked by itself"
        return Decoded(indices, devices, times, numbers, matrix, rejections)

    def _document(self, value: Value) -> object:
        if not value:
            raise _RejectedError(DeadLetterReason.EMPTY, "the value is empty")
        if len(value) > self._event_bytes_max:
            raise _RejectedError(
                DeadLetterReason.TOO_LARGE, f"{len(value)} bytes, the limit is {self._event_bytes_max}"
            )
        try:
            document = decode(value)
        except NotJsonError as error:
            try:
                value.decode()
            except UnicodeDecodeError as broken:
                detail = f"byte {broken.start} is no UTF-8: {broken.reason}"
                raise _RejectedError(DeadLetterReason.NOT_UTF8, detail) from None
            raise _RejectedError(DeadLetterReason.NOT_JSON, str(error)[:200]) from None
        if type(document) is not dict:
            raise _RejectedError(DeadLetterReason.NOT_OBJECT, f"JSON {_kind(document)}, expected an object")
        return document

    def _device_of(self, document: object, key: Value) -> str:
        if self._device is None:
            try:
                device: object = key.decode() if key is not None else MISSING
            except UnicodeDecodeError:
                raise _RejectedError(DeadLetterReason.BAD_DEVICE, "the record key is no UTF-8") from None
            place = "the record key"
        else:
            device = self._device.follow(document)
            place = self._device.text
        if type(device) is not str:
            raise _RejectedError(
                DeadLetterReason.BAD_DEVICE, f"{place} is {_kind(device)}, expected a string"
            )
        if not 0 < len(device) <= DEVICE_LENGTH_MAX:
            raise _RejectedError(
                DeadLetterReason.BAD_DEVICE,
                f"{place} has {len(device)} characters, expected 1 to {DEVICE_LENGTH_MAX}",
            )
        return device

    def _time_of(self, document: object) -> int:
        value = self._time.follow(document)
        if value is MISSING:
            raise _RejectedError(DeadLetterReason.BAD_TIME, f"nothing at {self._time.text}")
        try:
            return epoch_ms(value, self._time_unit)
        except BadTimeError as error:
            raise _RejectedError(DeadLetterReason.BAD_TIME, str(error)) from None

    def _row_of(self, document: object) -> list[float]:
        row = self._found(document)
        for name, number in zip(self._features, row, strict=True):
            if number is MISSING:
                raise _RejectedError(DeadLetterReason.MISSING_FEATURE, f"feature {name!r} is missing")
            if type(number) not in _NUMBERS:
                raise _RejectedError(
                    DeadLetterReason.BAD_FEATURE,
                    f"feature {name!r} is {_kind(number)}, expected a number",
                )
        numbers = cast(list[float], row)
        if self._tensor.matrix(numbers) is None:
            position = self._tensor.misfit(numbers)
            raise _RejectedError(
                DeadLetterReason.OUT_OF_RANGE,
                f"feature {self._features[position]!r} is {str(numbers[position])[:40]}, "
                f"which the model's {self._tensor.dtype_name} input does not hold",
            )
        return numbers

    def _found(self, document: object) -> list[object]:
        if self._container is None:
            return [place.follow(document) for place in self._places]
        container = self._container.follow(document)
        if type(container) is dict:
            return [container.get(name, MISSING) for name in self._features]
        if type(container) is list:
            if len(container) != len(self._features):
                raise _RejectedError(
                    DeadLetterReason.BAD_FEATURE,
                    f"{self._container.text} has {len(container)} values, expected {len(self._features)}",
                )
            return container
        if container is MISSING:
            raise _RejectedError(DeadLetterReason.MISSING_FEATURE, f"nothing at {self._container.text}")
        raise _RejectedError(
            DeadLetterReason.BAD_FEATURE,
            f"{self._container.text} is {_kind(container)}, expected an object or an array",
        )


def _joined(parts: Sequence[Decoded], starts: Sequence[int]) -> Decoded:
    """Decoded parts of one batch as one; `starts` are the parts' first positions in it."""
    pairs = list(zip(parts, starts, strict=True))
    return Decoded(
        indices=[start + index for part, start in pairs for index in part.indices]
        if any(part.rejections for part in parts)
        else range(sum(len(part.devices) for part in parts)),
        devices=[device for part in parts for device in part.devices],
        times_ms=[time_ms for part in parts for time_ms in part.times_ms],
        numbers=_joined_numbers([part.numbers for part in parts]),
        matrix=np.concatenate([part.matrix for part in parts]),
        rejections=[
            Rejection(start + rejection.index, rejection.reason, rejection.detail)
            for part, start in pairs
            for rejection in part.rejections
        ],
    )


def _joined_numbers(parts: Sequence[Numbers]) -> Numbers:
    arrays = [part for part in parts if isinstance(part, np.ndarray)]
    if len(arrays) == len(parts):
        return np.concatenate(arrays)
    return [number for part in parts for number in as_list(part)]


def _kind(value: object) -> str:
    if value is MISSING:
        return "missing"
    if value is None:
        return "null"
    names = {bool: "a boolean", str: "a string", list: "an array", dict: "an object"}
    return names.get(type(value), "a number")
