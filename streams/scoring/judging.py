"""Decoded events to scores and alarms: each by itself, or with what the package keeps of its device.

Guarantee: how the log is cut into batches, and a batch into runs of the model, changes no score and no alarm.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from ...schemas.manifest import Manifest
from ..transport.batch import PartitionBatch
from .decoding import Decoded
from .inference import ModelOutputError, Tensor
from .memory import PartitionMemory
from .scorer import BatchScorer, Scores

__all__ = ["Judge", "Judged", "Mask", "column_at"]

T = TypeVar("T")
Mask = npt.NDArray[np.bool_]

_NO_ROWS: Final = Scores(np.empty(0), None)

_WINDOW_VALUES_MAX: Final = 262_144
"""Values of windows in one run of the model: gathered and scored while the processor's cache holds them."""


@dataclass(frozen=True, slots=True)
class Judged:
    """Accepted events and what was found of them; all columns have the same rows. `failed`: row to reason."""

    decoded: Decoded
    scores: Scores
    failed: dict[int, str]
    alarms: Mask
    windows_cold: int = 0
    alarms_rested: int = 0

    def part(self, start: int, stop: int) -> "Judged":
        """What was found at positions `start` to `stop` of the batch."""
        decoded = self.decoded.part(start, stop)
        first = bisect_left(self.decoded.indices, start)
        end = first + len(decoded.devices)
        return Judged(
            decoded,
            self.scores.part(first, end),
            {row - first: detail for row, detail in self.failed.items() if first <= row < end},
            self.alarms[first:end],
        )


class Judge:
    """Applies one package to the batches of all partitions."""

    def __init__(self, manifest: Manifest, scorer: BatchScorer, *, batch_rows_max: int) -> None:
        self._manifest = manifest
        self._scorer = scorer
        self._run_rows_max = batch_rows_max
        if manifest.window > 1:
            row_values = manifest.window * len(manifest.features)
            self._run_rows_max = max(1, min(batch_rows_max, _WINDOW_VALUES_MAX // row_values))
        self._remembers = manifest.lookback_offsets > 0
        self._memories: dict[tuple[str, int], PartitionMemory] = {}

    @property
    def memory_bytes(self) -> int:
        """Bytes of what is kept of devices, names left out."""
        return sum(memory.size_bytes for memory in self._memories.values())

    def judge(self, batch: PartitionBatch, decoded: Decoded) -> Judged:
        """What is found of the accepted events of `batch`, those that are read again left out."""
        if self._remembers:
            return self._by_history(batch, decoded)
        return self._alone(decoded.from_row(_live(batch, decoded)))

    def can_join(self, batches: Sequence[PartitionBatch]) -> bool:
        """Whether nothing but the events themselves counts, so that partitions can be judged together."""
        return not self._remembers and not any(batch.rebuild_rows for batch in batches)

    def judge_joined(self, batches: Sequence[PartitionBatch], decoded: Decoded) -> list[Judged]:
        """What `judge` finds of each of `batches`; `decoded` is of all of them, one behind the other."""
        judged = self._alone(decoded)
        stops = list(accumulate(map(len, batches)))
        return [judged.part(start, stop) for start, stop in zip([0, *stops], stops, strict=False)]

    def forget_devices(self) -> None:
        """Drop what is kept, of all partitions."""
        self._memories.clear()

    def _alone(self, decoded: Decoded) -> Judged:
        """Each event by itself."""
        matrix = decoded.matrix
        scores, failed = self._scores(0, len(decoded.devices), lambda start, stop: matrix[start:stop])
        return Judged(decoded, scores, failed, self._above(scores, failed))

    def _by_history(self, batch: PartitionBatch, decoded: Decoded) -> Judged:
        """Each event with what is kept of its device; only what is live comes back."""
        memory = self._memory_of(batch)
        offsets = np.fromiter(column_at(batch.offsets, decoded.indices), np.int64, len(decoded.devices))
        memory.append(decoded, offsets, batch.offsets[-1])
        live = _live(batch, decoded)
        start = min(live, memory.first_scored(offsets, batch.live_from))
        scores, failed = self._scores(start, len(offsets), memory.inputs)
        scores = Scores(memory.follow(start, scores.scores), scores.contributions)
        alarms = self._above(scores, failed)
        rows = decoded.from_row(start)
        resting = memory.resting(alarms, rows.devices, rows.times_ms, offsets[start:])
        alarms[resting] = False
        skip = live - start
        failed = {row - skip: detail for row, detail in failed.items() if row >= skip}
        cold = memory.cold[live:]
        return Judged(
            rows.from_row(skip),
            scores.part(skip, len(scores.scores)),
            failed,
            alarms[skip:],
            windows_cold=int(cold.sum()) - int(cold[list(failed)].sum()),
            alarms_rested=sum(row >= skip for row in resting),
        )

    def _memory_of(self, batch: PartitionBatch) -> PartitionMemory:
        place = batch.topic, batch.partition
        memory = self._memories.get(place)
        if memory is None or not memory.follows(batch.offsets[0]):
            memory = self._memories[place] = PartitionMemory(self._manifest)
        return memory

    def _above(self, scores: Scores, failed: dict[int, str]) -> Mask:
        alarms = scores.scores > self._manifest.threshold
        if failed:
            alarms[list(failed)] = False
        return alarms

    def _scores(
        self, first: int, end: int, inputs: Callable[[int, int], Tensor]
    ) -> tuple[Scores, dict[int, str]]:
        """Scores of rows `first` to `end`, in runs of bounded size, and the rows without one, from 0 on."""
        if first == end:
            return _NO_ROWS, {}
        failed: dict[int, str] = {}
        parts: list[Scores] = []
        for start in range(first, end, self._run_rows_max):
            part = inputs(start, min(start + self._run_rows_max, end))
            try:
                parts.append(self._scorer.score(part))
            except ModelOutputError:
                parts.append(self._one_by_one(part, start - first, failed))
        scores = parts[0] if len(parts) == 1 else _joined(parts)
        lost: list[int] = np.flatnonzero(~np.isfinite(scores.scores)).tolist()
        return scores, {row: f"the score is {scores.scores[row]}" for row in lost} | failed

    def _one_by_one(self, part: Tensor, start: int, failed: dict[int, str]) -> Scores:
        """The model failed on a batch: find the rows it fails on, and score the others."""
        count = len(part)
        scores = np.full(count, np.nan)
        contributions = None
        if self._manifest.contributions_output is not None:
            contributions = np.full((count, len(self._manifest.features)), np.nan)
        for row in range(count):
            try:
                alone = self._scorer.score(part[row : row + 1])
            except ModelOutputError as error:
                failed[start + row] = str(error)
                continue
            scores[row] = alone.scores[0]
            if contributions is not None and alone.contributions is not None:
                contributions[row] = alone.contributions[0]
        return Scores(scores, contributions)


def _live(batch: PartitionBatch, decoded: Decoded) -> int:
    """The first accepted event that is not read again."""
    rebuilt = batch.rebuild_rows
    return bisect_left(decoded.indices, rebuilt) if rebuilt else 0


def _joined(parts: Sequence[Scores]) -> Scores:
    contributions = [part.contributions for part in parts if part.contributions is not None]
    return Scores(
        np.concatenate([part.scores for part in parts]),
        np.concatenate(contributions) if contributions else None,
    )


def column_at(column: Sequence[T], indices: Sequence[int]) -> Sequence[T]:
    """`column` at `indices`; the column itself when that is all of it, as for clean batches."""
    return column if len(indices) == len(column) else [column[index] for index in indices]
