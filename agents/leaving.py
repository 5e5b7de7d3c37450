"""What of a batch of the store is sent, in order; everything else is settled, or was."""

from typing import Protocol

from ..schemas.records import Outcome
from ..streams.delivery.departure import DamagedAnomalyError, departure_of
from ..streams.transport.batch import PartitionBatch
from . import metrics
from .sender import Anomaly, Outcomes

__all__ = ["leaving_of"]


class _Settled(Protocol):
    def holds(self, partition: int, offset: int, key: bytes) -> bool: ...


def leaving_of(batch: PartitionBatch, settled: _Settled, outcomes: Outcomes) -> list[Anomaly]:
    """The anomalies of `batch` that are to be sent; a damaged one gets its outcome here."""
    found: list[Anomaly] = []
    seen: set[bytes] = set()
    for offset, key, value in zip(batch.offsets, batch.keys, batch.values, strict=True):
        if key is None or value is None:
            continue  # a tombstone: its delivery was settled long ago
        if key in seen or settled.holds(batch.partition, offset, key):
            metrics.REPEATS_AVOIDED.inc()
            continue
        seen.add(key)
        try:
            found.append(Anomaly(key, offset, departure_of(value)))
        except DamagedAnomalyError as error:
            outcomes.add(key, offset, Outcome.SET_ASIDE, None, str(error))
    return found
