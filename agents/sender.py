"""Sends anomalies through the uplink and the breaker until each has an outcome.

Guarantees: `deliver` returns only when every anomaly of the batch is acknowledged or set aside; they are sent
in the order of the batch, one hub batch at a time; an anomaly that the link never takes is set aside with the
reason, and the rest goes on.
"""

import asyncio
import logging
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..schemas.records import DeliveryRecord, Outcome
from ..streams.delivery.breaker import BackoffLimits, Breaker, UplinkState
from ..streams.delivery.departure import DamagedAnomalyError, departure_of
from ..streams.scoring.codec import encode
from ..streams.scoring.pipeline import Columns
from ..streams.transport.batch import PartitionBatch
from . import metrics
from .uplink import (
    EventHubUplink,
    UplinkBusyError,
    UplinkLostError,
    UplinkTooLargeError,
    append,
)

__all__ = ["Outcomes", "Sender"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Anomaly:
    key: bytes
    body: bytes


class Outcomes:
    """What became of a batch's anomalies, ready for `deliveries`."""

    def __init__(self) -> None:
        self.columns = Columns()
        self.counts: Counter[Outcome] = Counter()

    def __len__(self) -> int:
        return len(self.columns)

    def add(self, keys: Iterable[bytes], outcome: Outcome, batch: str | None, detail: str | None) -> None:
        """Note the outcome of each anomaly in `keys`."""
        now_ms = time.time_ns() // 1_000_000
        for key in keys:
            record = DeliveryRecord(
                id=key.decode(errors="replace"),
                outcome=outcome.value,
                batch=batch,
                time=now_ms,
                detail=detail,
            )
            self.columns.keys.append(key)
            self.columns.values.append(encode(record))
            self.counts[outcome] += 1


class Sender:
    """Sends batches through the breaker until they are acknowledged."""

    def __init__(
        self,
        uplink: EventHubUplink,
        limits: BackoffLimits,
        *,
        on_attempt: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_attempt` hears of the end of each attempt, whatever came of it."""
        self._uplink = uplink
        self._on_attempt = on_attempt
        self.breaker = Breaker(limits, clock=time.monotonic, on_change=_ChangeLog())
        metrics.UPLINK_STATE.set(self.breaker.state.number)

    def pause(self) -> str | None:
        """Why waiting is meant: the breaker has put off the next attempt; None when it has not."""
        seconds = self.breaker.wait_seconds()
        return f"uplink {self.breaker.state}, next attempt in {seconds:.0f} s" if seconds > 0 else None

    async def deliver(self, batch: PartitionBatch) -> Outcomes:
        """Everything in `batch` to an outcome; returns only then."""
        outcomes = Outcomes()
        waiting = _anomalies_in(batch, outcomes)
        while waiting:
            waiting = waiting[await self._send_some(waiting, batch.partition, outcomes) :]
        return outcomes

    async def _send_some(self, waiting: list[_Anomaly], lane: int, outcomes: Outcomes) -> int:
        """Send as many as fit one batch; returns how many of `waiting` are settled."""
        limit = len(waiting)
        while True:
            await self._await_turn()
            count = 0
            try:
                await self._uplink.connect()
                packed = self._uplink.new_batch(lane)
                while count < limit and append(packed, waiting[count].body):
                    count += 1
                if count == 0:
                    return _set_aside(waiting[0], outcomes, "larger than the link takes")
                await self._uplink.send(packed)
            except UplinkBusyError as busy:
                self._note("busy")
                self.breaker.busy(str(busy))
            except UplinkTooLargeError as too_large:
                self._note("too-large")
                if count == 1:
                    return _set_aside(waiting[0], outcomes, str(too_large))
                if count == 0:
                    # Refused before anything was sent, so of no anomaly's size: another failure of the link.
                    self.breaker.failed(str(too_large))
                else:
                    limit = count // 2
            except UplinkLostError as lost:
                self._note("lost")
                self.breaker.failed(str(lost))
            else:
                self._note("acknowledged")
                self.breaker.succeeded()
                keys = (anomaly.key for anomaly in waiting[:count])
                outcomes.add(keys, Outcome.ACKNOWLEDGED, uuid.uuid4().hex, None)
                return count

    async def _await_turn(self) -> None:
        await asyncio.sleep(self.breaker.wait_seconds())
        self.breaker.attempting()

    def _note(self, result: str) -> None:
        metrics.UPLINK_ATTEMPTS.labels(result).inc()
        self._on_attempt()


def _anomalies_in(batch: PartitionBatch, outcomes: Outcomes) -> list[_Anomaly]:
    found = []
    for key, value in zip(batch.keys, batch.values, strict=True):
        if key is None or value is None:
            continue  # a tombstone: its delivery was settled long ago
        try:
            found.append(_Anomaly(key, departure_of(value)))
        except DamagedAnomalyError as error:
            outcomes.add([key], Outcome.SET_ASIDE, None, str(error))
    return found


def _set_aside(anomaly: _Anomaly, outcomes: Outcomes, detail: str) -> int:
    outcomes.add([anomaly.key], Outcome.SET_ASIDE, None, detail)
    return 1


class _ChangeLog:
    """Logs what the uplink became. Probing comes and goes with every attempt of an outage and is no news."""

    def __init__(self) -> None:
        self._told: UplinkState | None = None

    def __call__(self, before: UplinkState, after: UplinkState, reason: str) -> None:
        metrics.UPLINK_STATE.set(after.number)
        if after is UplinkState.PROBING or after is self._told:
            log.debug("uplink %s → %s: %s", before, after, reason)
        else:
            level = logging.INFO if after is UplinkState.ONLINE else logging.WARNING
            log.log(level, "uplink %s: %s", after, reason)
            self._told = after
