"""What of a batch of the store is sent, in order; everything else is settled, or was."""

from typing import Protocol

from ..schemas.records import Outcome
from ..streams.delivery.policy import DamagedAnomalyError, Departing, HeldBack, Policy
from ..streams.delivery.record_types import check_resent
from ..streams.transport.batch import PartitionBatch
from . import metrics
from .departures import Anomaly, Outcomes
from .store_resent import RESENT_MARK
from .store_selection import decoded

__all__ = ["leaving_of"]


class _Settled(Protocol):
    def holds(self, partition: int, offset: int, key: bytes) -> bool: ...

    def holds_place(self, partition: int, offset: int, key: bytes) -> bool: ...


def leaving_of(batch: PartitionBatch, settled: _Settled, outcomes: Outcomes, policy: Policy) -> list[Anomaly]:
    """The anomalies of `batch` that are to be sent; one damaged or held back gets its outcome here."""
    found: list[Anomaly] = []
    seen: set[bytes] = set()
    for offset, key, value in zip(batch.offsets, batch.keys, batch.values, strict=True):
        if key is None or value is None:
            continue  # a tombstone: its delivery was settled long ago
        # A record that asks to be sent again is settled by its place alone: its id was settled before.
        again = RESENT_MARK in value
        if settled.holds_place(batch.partition, offset, key) or (
            not again and (key in seen or settled.holds(batch.partition, offset, key))
        ):
            metrics.REPEATS_AVOIDED.inc()
            continue
        seen.add(key)
        verdict = _verdict(value, policy)
        if isinstance(verdict, Departing):
            found.append(Anomaly(key, offset, verdict.body(), resent=verdict.resent))
            continue
        request = _request_in(value) if again else None
        if isinstance(verdict, HeldBack):
            outcomes.add(key, offset, Outcome.HELD_BACK, None, verdict.reason, resent=request)
        else:
            outcomes.add(key, offset, Outcome.SET_ASIDE, None, verdict, resent=request)
    return found


def _request_in(value: bytes) -> str | None:
    """The request of a record that stays; None where the mark is damaged itself, or another's text."""
    try:
        return check_resent((decoded(value) or {}).get("resent"))
    except DamagedAnomalyError:
        return None


def _verdict(value: bytes, policy: Policy) -> Departing | HeldBack | str:
    try:
        return policy.judge(value)
    except DamagedAnomalyError as error:
        return str(error)
