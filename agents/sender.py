"""Sends anomalies through the uplink and the breaker until each has an outcome.

Guarantees: `deliver` returns only when every anomaly of the batch is acknowledged or set aside; they are sent
in the order of the batch, one hub batch at a time; an anomaly that the link never takes is set aside with the
reason, and the rest goes on.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable
from typing import Final

from ..streams.delivery.breaker import BackoffLimits, Breaker, UplinkState
from ..streams.delivery.hold import Hold
from ..streams.delivery.policy import Policy
from ..streams.transport.batch import PartitionBatch
from . import metrics
from .departures import Departure, Outcomes, departures_in
from .uplink import (
    EventHubUplink,
    UplinkBusyError,
    UplinkLostError,
    UplinkTooLargeError,
    append,
)

__all__ = ["Sender"]

log = logging.getLogger(__name__)

HOLD_LOOK_SECONDS: Final = 0.5


class Sender:
    """Sends batches through the breaker until they are acknowledged."""

    def __init__(
        self,
        uplink: EventHubUplink,
        limits: BackoffLimits,
        policy: Policy | None = None,
        site: str = "site",
        *,
        on_attempt: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_attempt` hears of the end of each attempt, whatever came of it."""
        self._uplink = uplink
        self._policy = policy or Policy()
        self._site = site
        self._on_attempt = on_attempt
        self.breaker = Breaker(limits, clock=time.monotonic, on_change=_ChangeLog())
        self.hold = Hold(clock=time.monotonic)
        metrics.UPLINK_STATE.set(self.breaker.state.number)

    def hold_for(self, seconds: float) -> None:
        """Leave the uplink alone, as if it were cut; attempts go on by themselves afterwards."""
        self.hold.begin(seconds)
        self.breaker.failed("held by a drill")

    def pause(self) -> str | None:
        """Why waiting is meant: the next attempt is put off, by breaker or drill; None when it is not."""
        seconds = max(self.breaker.wait_seconds(), self.hold.wait_seconds())
        return f"uplink {self.breaker.state}, next attempt in {seconds:.0f} s" if seconds > 0 else None

    async def deliver(self, batch: PartitionBatch) -> Outcomes:
        """Everything in `batch` to an outcome; returns only then."""
        outcomes = Outcomes(self._site, batch.partition, self._policy)
        await self.deliver_all(departures_in(batch, self._policy, outcomes), batch.partition, outcomes)
        return outcomes

    async def deliver_all(self, waiting: list[Departure], lane: int, outcomes: Outcomes) -> None:
        """All of `waiting` to an outcome, noted in `outcomes`; returns only then."""
        while waiting:
            waiting = waiting[await self._send_some(waiting, lane, outcomes) :]

    async def _send_some(self, waiting: list[Departure], lane: int, outcomes: Outcomes) -> int:
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
                    outcomes.set_aside(waiting[0].key, "larger than the link takes")
                    return 1
                await self._uplink.send(packed)
            except UplinkBusyError as busy:
                self._note("busy")
                self.breaker.busy(str(busy))
            except UplinkTooLargeError as too_large:
                self._note("too-large")
                if count == 1:
                    outcomes.set_aside(waiting[0].key, str(too_large))
                    return 1
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
                outcomes.acknowledged(waiting[:count], batch=uuid.uuid4().hex)
                return count

    async def _await_turn(self) -> None:
        await asyncio.sleep(self.breaker.wait_seconds())
        while (wait_seconds := max(self.hold.wait_seconds(), self.breaker.wait_seconds())) > 0:
            # A cut link is a new one afterwards; the hold may end before its time.
            await self._uplink.discard()
            await asyncio.sleep(min(wait_seconds, HOLD_LOOK_SECONDS))
        self.breaker.attempting()

    def _note(self, result: str) -> None:
        metrics.UPLINK_ATTEMPTS.labels(result).inc()
        self._on_attempt()


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
