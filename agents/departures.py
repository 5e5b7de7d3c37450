"""What leaves of anomalies, and what became of them for `deliveries` and `audit`.

Guarantees: each anomaly gets one delivery record, each batch that left one audit record. Neither ever leaves
the site.
"""

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from ..schemas.records import DeliveryRecord, DepartedRecord, Outcome
from ..streams.delivery.policy import Policy
from ..streams.scoring.codec import encode
from ..streams.scoring.pipeline import Columns
from .audit import AUDIT_PARTITION

__all__ = ["AUDIT_PARTITION", "Anomaly", "Origin", "Outcomes", "body_digest"]


@dataclass(slots=True)
class Anomaly:
    """What leaves of one anomaly, and where it stands in its partition of the store.

    `cut` says what of it was left out for its size, `resent` is the request by which it is sent again.
    """

    key: bytes
    offset: int
    body: bytes
    cut: str | None = None
    resent: str | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """Where anomalies come from and what lets them leave, as audit records tell it."""

    site: str
    partition: int
    policy: Policy


class Outcomes:
    """What became of anomalies: `columns` for `deliveries`, `audit` for the batches that left.

    `on_settled` hears of each, by offset and key. `flush` is called after each hub batch to take what there
    is. Without an `origin` there are no audit records.
    """

    def __init__(
        self,
        on_settled: Callable[[int, bytes], None] = lambda _offset, _key: None,
        flush: Callable[["Outcomes"], Awaitable[None]] | None = None,
        origin: Origin | None = None,
    ) -> None:
        self.columns = Columns()
        self.audit = Columns()
        self.counts: Counter[Outcome] = Counter()
        self._on_settled = on_settled
        self._flush = flush
        self._origin = origin

    def __len__(self) -> int:
        return len(self.columns)

    def acknowledged(self, anomalies: Sequence[Anomaly], *, batch: str) -> None:
        """The service has these, in one batch."""
        for anomaly in anomalies:
            digest = body_digest(anomaly.body)
            self.add(
                anomaly.key,
                anomaly.offset,
                Outcome.ACKNOWLEDGED,
                batch,
                anomaly.cut,
                digest=digest,
                resent=anomaly.resent,
            )
        if self._origin is not None:
            self._tell_departed(self._origin, anomalies, batch)

    def _tell_departed(self, origin: Origin, anomalies: Sequence[Anomaly], batch: str) -> None:
        record = DepartedRecord(
            kind="departed",
            site=origin.site,
            batch=batch,
            time=_now_ms(),
            partition=origin.partition,
            count=len(anomalies),
            resent=sum(anomaly.resent is not None for anomaly in anomalies),
            bytes=sum(len(anomaly.body) for anomaly in anomalies),
            fields=origin.policy.leaves,
            policy=origin.policy.digest,
        )
        self.audit.keys.append(origin.site.encode())
        self.audit.values.append(encode(record))

    def add(
        self,
        key: bytes,
        offset: int,
        outcome: Outcome,
        batch: str | None,
        detail: str | None,
        *,
        digest: str | None = None,
        resent: str | None = None,
    ) -> None:
        """Note one anomaly's outcome."""
        record = DeliveryRecord(
            id=key.decode(errors="replace"),
            outcome=outcome.value,
            batch=batch,
            time=_now_ms(),
            detail=detail,
            offset=offset,
            digest=digest,
            resent=resent,
        )
        self.columns.keys.append(key)
        self.columns.values.append(encode(record))
        self.counts[outcome] += 1
        self._on_settled(offset, key)

    def take(self) -> tuple[Columns, Columns, Counter[Outcome]]:
        """What was noted since the last time: for `deliveries`, for `audit`, and how many of each outcome."""
        taken = self.columns, self.audit, self.counts
        self.columns, self.audit, self.counts = Columns(), Columns(), Counter()
        return taken

    async def flush(self) -> None:
        """Pass on what there is."""
        if self._flush is not None and len(self):
            await self._flush(self)


def body_digest(body: bytes) -> str:
    """The digest of an event's body as `deliveries` keeps it."""
    return blake2b(body, digest_size=16).hexdigest()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
