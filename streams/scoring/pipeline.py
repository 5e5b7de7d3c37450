"""One partition's batch to everything that becomes of it: scored records, anomalies, dead letters.

Invariants:
  events in = scored + dead letters; no event is in both
  anomalies <= scored
  columns keep the order of offsets, so results keep the order of events
  records below a batch's `live_from` come to nothing again: they only make the memory of devices whole
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

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
from .judging import Judge, Judged, Mask, column_at
from .scorer import Scores, severity_of

__all__ = ["BatchResult", "Columns", "EventPipeline"]


_JOINED_ROWS_MAX: Final = 1_024
"""Beyond it what a batch costs by itself is little, and the loop should have its turn between two."""


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
    """What becomes of one batch: `rejections` and `severities` follow the dead letters and anomalies.

    `windows_cold` counts scored events whose window was not full, `alarms_rested` those above the threshold
    whose device rested, `rebuilt` records that were read again for the memory of devices alone.
    """

    scored: Columns
    anomalies: Columns
    dead_letters: Columns
    rejections: Sequence[Rejection]
    severities: Sequence[str]
    windows_cold: int = 0
    alarms_rested: int = 0
    rebuilt: int = 0


class EventPipeline:
    """Scores batches by one package.

    Without anything kept per device it is pure: the same batch gives the same bytes but for `detected_at`.
    With it, the same log does, however it is cut into batches, from the package's horizon on.
    """

    def __init__(
        self, package: ModelPackage, *, site: str, event_bytes_max: int, batch_rows_max: int
    ) -> None:
        self._manifest: Manifest = package.manifest
        self._digest = package.digest
        self._judge = Judge(package.manifest, package.scorer, batch_rows_max=batch_rows_max)
        self._encoder = ScoredEncoder(package.manifest.label)
        self._decoder = EventDecoder(package.manifest, event_bytes_max=event_bytes_max)
        self._site = site

    @property
    def memory_bytes(self) -> int:
        """Bytes of what is kept of devices, names left out."""
        return self._judge.memory_bytes

    @property
    def joined_rows_max(self) -> int:
        """How many rows of several batches are worth being scored together; 0 where it gains nothing."""
        return _JOINED_ROWS_MAX if self._judge.can_join(()) else 0

    @property
    def reader_names(self) -> tuple[str, ...]:
        """The quick readers of events, in the order in which they are asked."""
        return self._decoder.reader_names

    def forget_devices(self) -> None:
        """Begin anew with an empty memory, before every partition is read again from its horizon."""
        self._judge.forget_devices()

    def process(self, batch: PartitionBatch, *, now_ms: int) -> BatchResult:
        """Every outcome of `batch`; `now_ms` is the wall clock, for `detected_at`."""
        return self._outcomes(
            batch, self._judge.judge(batch, self._decoder.decode(batch.values, batch.keys)), now_ms
        )

    def process_all(self, batches: Sequence[PartitionBatch], *, now_ms: int) -> list[BatchResult]:
        """What `process` gives for each of `batches`, in turn.

        Small batches cost nearly as much as large ones, so that what waits is decoded and scored together.
        """
        if len(batches) == 1 or not self._judge.can_join(batches):
            return [self.process(batch, now_ms=now_ms) for batch in batches]
        values = [value for batch in batches for value in batch.values]
        keys = [key for batch in batches for key in batch.keys]
        judged = self._judge.judge_joined(batches, self._decoder.decode(values, keys))
        return [self._outcomes(batch, part, now_ms) for batch, part in zip(batches, judged, strict=True)]

    def _outcomes(self, batch: PartitionBatch, judged: Judged, now_ms: int) -> BatchResult:
        decoded, scores, failed = judged.decoded, judged.scores, judged.failed
        rebuilt = batch.rebuild_rows
        rejections = list(decoded.rejections)
        if rebuilt:
            rejections = [rejection for rejection in rejections if rejection.index >= rebuilt]
        if failed:
            rejections += [
                Rejection(decoded.indices[row], DeadLetterReason.MODEL_OUTPUT, detail)
                for row, detail in failed.items()
            ]
            rejections.sort(key=lambda rejection: rejection.index)
        anomalies, severities = self._anomalies(batch, decoded, scores, np.flatnonzero(judged.alarms), now_ms)
        return BatchResult(
            scored=self._scored(batch, decoded, scores, judged.alarms, failed),
            anomalies=anomalies,
            dead_letters=_dead_letters(batch, rejections),
            rejections=rejections,
            severities=severities,
            windows_cold=judged.windows_cold,
            alarms_rested=judged.alarms_rested,
            rebuilt=rebuilt,
        )

    def _scored(
        self,
        batch: PartitionBatch,
        decoded: Decoded,
        scores: Scores,
        alarms: Mask,
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
                offsets=column_at(batch.offsets, decoded.indices),
            )
        )
        keys = list(column_at(batch.keys, decoded.indices))
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
