"""Sends anomalies through the uplink and the breaker until each has an outcome.

Guarantees: `deliver` returns only when every anomaly given to it is acknowledged or set aside; those of one
call are sent in order, one hub batch at a time; several calls, for several lanes, have at most
`batches_max` batches under way together, which is all that a lost acknowledgement or a crash can repeat;
with a `live_fraction` what has just come and what had waited share the link by it
(streams/delivery/share.py); while the link is not known to be good, one call tries it and the others wait;
an anomaly that the link never takes is cut down or set aside with the reason, and the rest goes on.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Final

from ..schemas.records import Outcome
from ..streams.delivery.breaker import BackoffLimits, Breaker, UplinkState
from ..streams.delivery.cutting import cut_down
from ..streams.delivery.hold import Hold
from ..streams.delivery.pace import BatchSize, Pace
from ..streams.delivery.share import Share, Traffic
from . import metrics
from .departures import Anomaly, Outcomes
from .hub_event import EventEncoder
from .uplink import EventHubUplink, HubBatch
from .uplink_errors import UplinkBusyError, UplinkLostError, UplinkSilentError, UplinkTooLargeError

__all__ = ["Anomaly", "Outcomes", "Sender", "SenderLimits"]

log = logging.getLogger(__name__)

HOLD_LOOK_SECONDS: Final = 0.5

_TOO_LARGE = "larger than the link takes"


@dataclass(frozen=True, slots=True)
class SenderLimits:
    """How hard the link may be used; None is no cap."""

    backoff: BackoffLimits = field(default_factory=BackoffLimits)
    batches_max: int = 4
    kbits_per_second_max: float | None = None
    events_per_second_max: float | None = None
    pack_anomalies_max: int = 1
    live_fraction: float | None = None


@dataclass(frozen=True, slots=True)
class _Turn:
    """Leave to make one attempt, which the breaker knows by `attempt`; `leaves` says that its batch does."""

    attempt: int
    leaves: Callable[[], None]


class Sender:
    """Sends through the breaker until there is an outcome. One for a bridge, used by all its lanes."""

    def __init__(
        self,
        uplink: EventHubUplink,
        encoder: EventEncoder,
        limits: SenderLimits,
        *,
        on_attempt: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_attempt` hears of the end of each attempt, whatever came of it."""
        self._uplink = uplink
        self._on_attempt = on_attempt
        self._encoder = encoder
        self.breaker = Breaker(limits.backoff, clock=time.monotonic, on_change=_ChangeLog())
        self._pace = Pace(
            limits.kbits_per_second_max,
            limits.events_per_second_max,
            senders=limits.batches_max,
            clock=time.monotonic,
        )
        self._size = BatchSize(uplink.limits.send_seconds_max)
        self._share = Share(limits.live_fraction)
        self._share_moved = asyncio.Event()
        self._slots = asyncio.Semaphore(limits.batches_max)
        self._probing = asyncio.Lock()
        self._pack_max = limits.pack_anomalies_max
        self.hold = Hold(clock=time.monotonic)
        metrics.UPLINK_STATE.set(self.breaker.state.number)

    def hold_for(self, seconds: float) -> None:
        """Leave the uplink alone, as if it were cut; attempts go on by themselves afterwards."""
        self.hold.begin(seconds)
        self.breaker.failed("held by a drill")

    def pause(self) -> str | None:
        """Why waiting is meant: breaker, drill or a cap has put off the next attempt; None if none has."""
        seconds = self._wait_seconds()
        if seconds > 0:
            return f"uplink {self.breaker.state}, next attempt in {seconds:.0f} s"
        seconds = self._pace.wait_seconds()
        return f"the link's cap is reached for {seconds:.0f} s" if seconds > 0 else None

    async def deliver(
        self,
        lane: int,
        anomalies: Sequence[Anomaly],
        outcomes: Outcomes,
        still_ours: Callable[[], bool] = lambda: True,
        traffic: Traffic = Traffic.BACKLOG,
    ) -> bool:
        """All of `anomalies` to an outcome; returns only then, or with False once they are another's."""
        sent = 0
        while sent < len(anomalies):
            if not still_ours():
                return False
            sent += await self._send_some(anomalies, sent, lane, outcomes, traffic)
            await outcomes.flush()
        await outcomes.flush()
        return True

    @contextmanager
    def _asking(self, traffic: Traffic) -> Iterator[Callable[[], None]]:
        """Ask for a turn until what is given is called, since the batch leaves, or until the turn is over.

        Who waits for an answer asks for nothing. Else, where answers take long, a few live anomalies that are
        under way would keep the backlog from a link that has room.
        """
        asks = True

        def leaves() -> None:
            nonlocal asks
            if asks:
                asks = False
                self._share.end(traffic)
                self._share_moved.set()

        self._share.begin(traffic)
        self._share_moved.set()
        try:
            yield leaves
        finally:
            leaves()

    async def _send_some(
        self, anomalies: Sequence[Anomaly], start: int, lane: int, outcomes: Outcomes, traffic: Traffic
    ) -> int:
        """Send as many from `start` as fit one batch; returns how many are settled."""
        limit = min(len(anomalies) - start, self._pace.batch_events_max or len(anomalies))
        while True:
            async with self._turn(traffic) as turn:
                count = 0
                try:
                    await self._uplink.connect(lane)
                    batch = self._uplink.new_batch(lane, self._batch_bytes_max())
                    count = self._fill(batch, anomalies, start, limit)
                    if count == 0:
                        return self._cut_or_set_aside(anomalies[start], outcomes, _TOO_LARGE)
                    await self._send(batch, traffic, turn.leaves)
                except UplinkBusyError as busy:
                    self._note("busy")
                    self.breaker.busy(str(busy), turn.attempt)
                except UplinkTooLargeError as too_large:
                    self._note("too-large")
                    if count == 1:
                        return self._cut_or_set_aside(anomalies[start], outcomes, str(too_large))
                    if count == 0:
                        # Refused before anything was sent, so of no anomaly's size: another failure.
                        self.breaker.failed(str(too_large), turn.attempt)
                    else:
                        limit = count // 2
                except UplinkLostError as lost:
                    self._note("lost")
                    if isinstance(lost, UplinkSilentError) and count:
                        self._size.not_carried()
                    self.breaker.failed(str(lost), turn.attempt)
                else:
                    self._note("acknowledged")
                    self.breaker.succeeded(turn.attempt)
                    outcomes.acknowledged(anomalies[start : start + count], batch=uuid.uuid4().hex)
                    return count

    @asynccontextmanager
    async def _turn(self, traffic: Traffic) -> AsyncIterator[_Turn]:
        """Wait for leave to make one attempt: of the breaker, the caps, the share, and of those under way."""
        with self._asking(traffic) as leaves:
            while True:
                await self._wait()
                while not self._share.may(traffic):
                    self._share_moved.clear()
                    await self._share_moved.wait()
                side_by_side = self.breaker.ready
                async with self._slots if side_by_side else self._probing:
                    if self.breaker.ready is not side_by_side or self._wait_seconds() > 0:
                        continue  # the link has become another one meanwhile
                    if self._pace.wait_seconds() > 0 or not self._share.may(traffic):
                        continue  # others had their turn meanwhile
                    yield _Turn(self.breaker.attempting(), leaves)
                    return

    def _wait_seconds(self) -> float:
        return max(self.breaker.wait_seconds(), self.hold.wait_seconds())

    async def _wait(self) -> None:
        while (held := self.hold.wait_seconds()) > 0:
            # A cut link is a new one afterwards; the hold may end before its time.
            await self._uplink.discard()
            await asyncio.sleep(min(held, HOLD_LOOK_SECONDS))
        link, cap = self.breaker.wait_seconds(), self._pace.wait_seconds()
        if link > 0 or cap > 0:
            busy = self.breaker.state is UplinkState.THROTTLED
            reason = "cap" if cap > link else "busy" if busy else "offline"
            metrics.UPLINK_WAITED.labels(reason).inc(max(link, cap))
        await asyncio.sleep(max(link, cap))

    def _batch_bytes_max(self) -> int:
        cap = self._pace.batch_bytes_max
        return self._size.bytes_max if cap is None else min(self._size.bytes_max, cap)

    def _fill(self, batch: HubBatch, anomalies: Sequence[Anomaly], start: int, limit: int) -> int:
        self._size.fit(batch.link_bytes_max)
        count = 0
        while count < limit:
            first = start + count
            taken = self._append(batch, anomalies[first : first + min(self._pack_max, limit - count)])
            if taken == 0:
                break
            count += taken
        return count

    def _append(self, batch: HubBatch, some: Sequence[Anomaly]) -> int:
        """One event more, of as many of `some` as fit; how many those are."""
        while len(some) > 1:
            event = self._encoder.encode_pack(some[0].key, [anomaly.body for anomaly in some])
            if batch.append(event):
                return len(some)
            some = some[: len(some) // 2]
        return int(batch.append(self._encoder.encode(some[0].key, some[0].body)))

    async def _send(self, batch: HubBatch, traffic: Traffic, leaves: Callable[[], None]) -> None:
        self._pace.charge(len(batch), batch.size_bytes)
        self._share.charge(traffic, batch.size_bytes)
        leaves()
        began = time.monotonic()
        await self._uplink.send(batch)
        seconds = time.monotonic() - began
        self._size.carried(batch.size_bytes, seconds)
        metrics.UPLINK_BYTES.inc(batch.size_bytes)
        metrics.UPLINK_SEND_SECONDS.observe(seconds)

    def _cut_or_set_aside(self, anomaly: Anomaly, outcomes: Outcomes, reason: str) -> int:
        """Make it smaller, to be tried again (0), or settle it (1)."""
        smaller = cut_down(anomaly.body)
        if smaller is None:
            outcomes.add(anomaly.key, anomaly.offset, Outcome.SET_ASIDE, None, reason, resent=anomaly.resent)
            return 1
        anomaly.body, anomaly.cut = smaller
        return 0

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
