"""A batch of the store as the uplink gets it, and what became of it for `deliveries` and `audit`.

Guarantees: what goes to the link has passed the policy; each anomaly gets one delivery record, each batch
that left one audit record. Neither ever leaves the site.
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from ..schemas.records import DeliveryRecord, DepartedRecord, Outcome
from ..streams.delivery.policy import DamagedAnomalyError, HeldBack, Policy
from ..streams.scoring.codec import encode
from ..streams.scoring.pipeline import Columns
from ..streams.transport.batch import PartitionBatch
from .audit import AUDIT_PARTITION

__all__ = ["AUDIT_PARTITION", "Departure", "Outcomes", "body_digest", "departures_in"]


@dataclass(frozen=True, slots=True)
class Departure:
    """One anomaly on its way: the key of its record and the body of its event."""

    key: bytes
    body: bytes
    resent: str | None


class Outcomes:
    """What became of a batch's anomalies: `columns` for `deliveries`, `audit` for the batches that left."""

    def __init__(self, site: str, partition: int, policy: Policy) -> None:
        self._site = site
        self._partition = partition
        self._policy = policy
        self.columns = Columns()
        self.audit = Columns()
        self.counts: Counter[Outcome] = Counter()

    def __len__(self) -> int:
        return len(self.columns)

    @property
    def parcels(self) -> int:
        """How many of the two have records."""
        return bool(len(self.columns)) + bool(len(self.audit))

    def acknowledged(self, departures: Sequence[Departure], *, batch: str) -> None:
        """The service has these, in one batch."""
        now_ms = _now_ms()
        for departure in departures:
            digest = body_digest(departure.body)
            self._add(departure.key, Outcome.ACKNOWLEDGED, now_ms, batch, None, digest, departure.resent)
        record = DepartedRecord(
            kind="departed",
            site=self._site,
            batch=batch,
            time=now_ms,
            partition=self._partition,
            count=len(departures),
            resent=sum(departure.resent is not None for departure in departures),
            bytes=sum(len(departure.body) for departure in departures),
            fields=self._policy.leaves,
            policy=self._policy.digest,
        )
        self.audit.keys.append(self._site.encode())
        self.audit.values.append(encode(record))

    def set_aside(self, key: bytes, detail: str) -> None:
        """The link takes no such anomaly, or it is damaged."""
        self._add(key, Outcome.SET_ASIDE, _now_ms(), None, detail, None, None)

    def held_back(self, key: bytes, reason: str) -> None:
        """The policy keeps it on the site."""
        self._add(key, Outcome.HELD_BACK, _now_ms(), None, reason, None, None)

    def _add(
        self,
        key: bytes,
        outcome: Outcome,
        now_ms: int,
        batch: str | None,
        detail: str | None,
        digest: str | None,
        resent: str | None,
    ) -> None:
        record = DeliveryRecord(
            id=key.decode(errors="replace"),
            outcome=outcome.value,
            batch=batch,
            time=now_ms,
            detail=detail,
            digest=digest,
            resent=resent,
        )
        self.columns.keys.append(key)
        self.columns.values.append(encode(record))
        self.counts[outcome] += 1


def departures_in(batch: PartitionBatch, policy: Policy, outcomes: Outcomes) -> list[Departure]:
    """What leaves of `batch`, in its order; what does not is noted in `outcomes`."""
    found = []
    for key, value in zip(batch.keys, batch.values, strict=True):
        if key is None or value is None:
            continue  # a tombstone: its delivery was settled long ago
        try:
            verdict = policy.judge(value)
        except DamagedAnomalyError as error:
            outcomes.set_aside(key, str(error))
            continue
        if isinstance(verdict, HeldBack):
            outcomes.held_back(key, verdict.reason)
        else:
            found.append(Departure(key, verdict.body(), verdict.resent))
    return found


def body_digest(body: bytes) -> str:
    """The digest of an event's body as `deliveries` keeps it."""
    return blake2b(body, digest_size=16).hexdigest()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
