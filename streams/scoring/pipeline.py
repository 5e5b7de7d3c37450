"""One partition's batch to everything that becomes of it: scored records, anomalies, dead letters.

Invariants:
  events in = scored + dead letters; no event is in both
  anomalies <= scored
  columns keep the order of offsets, so results keep the order of events
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

import numpy as np

from ...schemas.manifest import Manifest
from ...schemas.reasons import DeadLetterReason
from ...schemas.records import AnomalyRecord
from ..packages.loader import ModelPackage
from ..transport.batch import PartitionBatch
from .codec import encode
from .decoding import Decoded, EventDecoder, Rejection
from .encoding import ScoredEncoder
from .identity import anomaly_id
from .inference import ModelOutputError, Tensor
from .scorer import BatchScorer, Scores, severity_of

__all__ = ["BatchResult", "Columns", "EventPipeline"]

T = TypeVar("T")

_NO_ROWS: Final = Scores(np.empty(0), None)


@dataclass(slots=True)
class Columns:
    """Records for one topic, column by column; `headers` is empty or as long as the others."""

    keys: list[bytes | None] = field(default_factory=list)
    values: list[bytes | None] = field(default_factory=list)
    headers: list[list[tuple[str, bytes]]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What becomes of one batch: `rejections` and `severities` follow the dead letters and anomalies."""

    scored: Columns
    anomalies: Columns
    dead_letters: Columns
    rejections: Sequence[Rejection]
    severities: Sequence[str]


class EventPipeline:
    """Scores batches by one package. Pure: the same batch gives the same bytes but for `detected_at`."""

    def __init__(
        self, package: ModelPackage, *, site: str, event_bytes_max: int, batch_rows_max: int
    ) -> None:
        self._manifest: Manifest = package.manifest
        self._digest = package.digest
        self._scorer: BatchScorer = package.scorer
        self._encoder = ScoredEncoder(package.manifest.label)
        self._decoder = EventDecoder(package.manifest, event_bytes_max=event_bytes_max)
        self._site = site
        self._batch_rows_max = batch_rows_max

    def process(self, batch: PartitionBatch, *, now_ms: int) -> BatchResult:
        """Every outcome of `batch`; `now_ms` is the wall clock, for `detected_at`."""
        decoded = self._decoder.decode(batch.values, batch.keys)
        scores, failed = self._scores(decoded)
        finite = np.isfinite(scores.scores)
        lost: list[int] = np.flatnonzero(~finite).tolist()
        failed = {row: f"the score is {scores.scores[row]}" for row in lost} | failed
        rejections = list(decoded.rejections)
        if failed:
            rejections += [
                Rejection(decoded.indices[row], DeadLetterReason.MODEL_OUTPUT, detail)
                for row, detail in failed.items()
            ]
            rejections.sort(key=lambda rejection: rejection.index)
        alarms = scores.scores > self._manifest.threshold
        alarms[~finite] = False
        anomalies, severities = self._anomalies(batch, decoded, scores, np.flatnonzero(alarms), now_ms)
        return BatchResult(
            scored=self._scored(batch, decoded, scores, alarms, failed),
            anomalies=anomalies,
            dead_letters=_dead_letters(batch, rejections),
            rejections=rejections,
            severities=severities,
        )

    def _scores(self, decoded: Decoded) -> tuple[Scores, dict[int, str]]:
        """Scores of all rows, in runs of at most `batch_rows_max`, and the rows the model failed on."""
        rows = len(decoded.devices)
        if rows == 0:
            return _NO_ROWS, {}
        failed: dict[int, str] = {}
        parts: list[Scores] = []
        for start in range(0, rows, self._batch_rows_max):
            part = decoded.matrix[start : start + self._batch_rows_max]
            try:
                parts.append(self._scorer.score(part))
            except ModelOutputError:
                parts.append(self._one_by_one(part, start, failed))
        if len(parts) == 1:
            return parts[0], failed
        contributions = [part.contributions for part in parts if part.contributions is not None]
        return (
            Scores(
                np.concatenate([part.scores for part in parts]),
                np.concatenate(contributions) if contributions else None,
            ),
            failed,
        )

    def _one_by_one(self, part: Tensor, start: int, failed: dict[int, str]) -> Scores:
        """The model failed on a batch: find the rows it fails on, and score the others."""
        count, features = part.shape
        scores = np.full(count, np.nan)
        contributions = None
        if self._manifest.contributions_output is not None:
            contributions = np.full((count, features), np.nan)
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

    def _scored(
        self,
        batch: PartitionBatch,
        decoded: Decoded,
        scores: Scores,
        alarms: np.ndarray[tuple[int, ...], np.dtype[np.bool_]],
        failed: dict[int, str],
    ) -> Columns:
        values: list[bytes | None] = list(
            self._encoder.encode(
                batch.topic,
                batch.partition,
                devices=decoded.devices,
                times_ms=decoded.times_ms,
                scores=scores.scores,
                alarms=alarms,
                offsets=_at(batch.offsets, decoded.indices),
            )
        )
        keys = list(_at(batch.keys, decoded.indices))
        if failed:
            keep = [row for row in range(len(values)) if row not in failed]
            keys, values = [keys[row] for row in keep], [values[row] for row in keep]
        return Columns(keys, values)

    def _anomalies(
        self,
        batch: PartitionBatch,
        decoded: Decoded,
        scores: Scores,
        rows: np.ndarray[tuple[int, ...], np.dtype[np.intp]],
        now_ms: int,
    ) -> tuple[Columns, list[str]]:
        columns = Columns()
        severities: list[str] = []
        features = self._manifest.features
        for row in rows.tolist():
            index = decoded.indices[row]
            offset = batch.offsets[index]
            value = batch.values[index] or b""
            identity = anomaly_id(
                self._site, batch.topic, batch.partition, offset, batch.timestamps_ms[index], value
            )
            score = float(scores.scores[row])
            severities.append(severity_of(self._manifest, score))
            record = AnomalyRecord(
                id=identity,
                site=self._site,
                device=decoded.devices[row],
                time=decoded.times_ms[row],
                score=score,
                threshold=self._manifest.threshold,
                severity=severities[-1],
                model=self._manifest.label,
                model_digest=self._digest,
                contributions=_contributions(features, scores, row),
                readings=decoded.readings_of(row, features),
                source={"topic": batch.topic, "partition": batch.partition, "offset": offset},
                detected_at=now_ms,
            )
            columns.keys.append(identity.encode())
            columns.values.append(encode(record))
        return columns, severities


def _at(column: Sequence[T], indices: Sequence[int]) -> Sequence[T]:
    """`column` at `indices`; the column itself when that is all of it, as for clean batches."""
    return column if len(indices) == len(column) else [column[index] for index in indices]


def _contributions(features: tuple[str, ...], scores: Scores, row: int) -> dict[str, float] | None:
    if scores.contributions is None or not np.isfinite(scores.contributions[row]).all():
        # orjson would write null for what is not finite, which the schema does not allow.
        return None
    return dict(zip(features, scores.contributions[row].tolist(), strict=True))


def _dead_letters(batch: PartitionBatch, rejections: Sequence[Rejection]) -> Columns:
    columns = Columns()
    for rejection in rejections:
        columns.keys.append(batch.keys[rejection.index])
        columns.values.append(batch.values[rejection.index])
        columns.headers.append(
            [
                ("reason", rejection.reason.value.encode()),
                ("detail", rejection.detail.encode(errors="replace")),
                ("topic", batch.topic.encode()),
                ("partition", str(batch.partition).encode()),
                ("offset", str(batch.offsets[rejection.index]).encode()),
            ]
        )
    return columns
