"""One story a fault: a load on four lanes, the fault, its end, and what had become of every anomaly.

The SDK, the sockets and the breaker are real; Kafka is not needed for what is looked at here.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import psutil

from farshore.agents import metrics
from farshore.agents.hub_access import HubAccess, connection_string_access
from farshore.agents.hub_event import EventEncoder
from farshore.agents.names import NameLookup
from farshore.agents.sender import Anomaly, Outcomes, Sender, SenderLimits
from farshore.agents.uplink import EventHubUplink, HubBatch, UplinkLimits
from farshore.local.eventhubs import Control, EventHubsStandIn, FaultKind
from farshore.streams.delivery.breaker import BackoffLimits

from ..site import anomaly_record, stored_in

LANES = 4
LIMITS = UplinkLimits(connect_seconds_max=6.0, send_seconds_max=4.0)
BACKOFF = BackoffLimits(0.2, 8.0)
CALL_SLACK_SECONDS = 2.5
"""Cancelling and closing a client, and a machine that does other things."""

RECOVERY_SECONDS_MAX = BACKOFF.seconds_max + LIMITS.connect_seconds_max + CALL_SLACK_SECONDS
GROWTH_MB_MAX = 24.0
CHUNK = 25


@dataclass(frozen=True)
class Result:
    """What a story showed."""

    name: str
    longest_call_seconds: float
    recovery_seconds: float
    delivered: int
    expected: int
    repeats: int
    repeats_max: int
    growth_mb: float
    threads_more: int
    told: str
    limits: UplinkLimits = LIMITS

    @property
    def problems(self) -> list[str]:
        """What is not as promised."""
        longest = max(self.limits.connect_seconds_max, self.limits.send_seconds_max)
        call_max = longest + CALL_SLACK_SECONDS
        checks = {
            f"a call took longer than {call_max:g} s": self.longest_call_seconds > call_max,
            f"recovery took longer than {RECOVERY_SECONDS_MAX:g} s": self.recovery_seconds
            > RECOVERY_SECONDS_MAX,
            "not everything was delivered, or something else": self.delivered != self.expected,
            "more repeats than the bound": self.repeats > self.repeats_max,
            f"memory grew by more than {GROWTH_MB_MAX:g} MB": self.growth_mb > GROWTH_MB_MAX,
            "threads were left behind": self.threads_more > 2,
        }
        return [text for text, wrong in checks.items() if wrong]


class TimedUplink(EventHubUplink):
    """Notes how long its calls take and when the last one succeeded."""

    longest_seconds = 0.0
    acknowledged_at = 0.0
    largest_batch = 1

    async def connect(self, lane: int) -> None:
        """As ever, timed."""
        # What a lane waits for another one's connect is not this call's.
        async with self._timed():
            await super().connect(lane)

    async def send(self, batch: HubBatch) -> None:
        """As ever, timed."""
        type(self).largest_batch = max(self.largest_batch, len(batch))
        async with self._timed():
            await super().send(batch)
        self.acknowledged_at = time.monotonic()

    @asynccontextmanager
    async def _timed(self) -> AsyncIterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.longest_seconds = max(self.longest_seconds, time.monotonic() - began)


@dataclass
class Scene:
    """A hub, a bridge's sending half, and a load on it that goes on until told to stop."""

    hub: EventHubsStandIn
    uplink: TimedUplink
    sender: Sender
    made: int = 0
    stopping: bool = False
    paused: bool = False

    async def load(self, lane: int) -> None:
        """Small batches without pause."""
        while not self.stopping:
            if not self.paused:
                anomalies = []
                for _ in range(CHUNK):
                    record = anomaly_record(self.made)
                    self.made += 1
                    anomalies.append(Anomaly(record["id"].encode(), self.made, orjson.dumps(record)))
                await self.sender.deliver(lane, anomalies, Outcomes())
            await asyncio.sleep(0.1)


Strike = Callable[[Scene], Awaitable[None]]
"""Begins the fault, holds it and ends it."""


def memory_mb() -> float:
    """Resident now, after a collection."""
    gc.collect()
    return float(psutil.Process().memory_info().rss) / 1e6


async def tell(
    name: str,
    strike: Strike,
    *,
    hub: EventHubsStandIn | None = None,
    access: Callable[[EventHubsStandIn], HubAccess] | None = None,
    names: NameLookup | None = None,
    warm: bool = True,
) -> Result:
    """Play one story to its end."""
    async with hub or EventHubsStandIn(hub="anomalies", partitions=LANES) as running:
        make = access or (lambda hub: connection_string_access(hub.connection_string))
        uplink = TimedUplink(make(running), LIMITS, names)
        scene = Scene(
            running,
            uplink,
            Sender(uplink, EventEncoder("/farshore/north"), SenderLimits(BACKOFF, batches_max=LANES)),
        )
        lost = _lost()
        if warm:
            warming = [scene.sender.deliver(lane, [_first(scene)], Outcomes()) for lane in range(LANES)]
            await asyncio.gather(*warming)
        before_mb, threads = memory_mb(), threading.active_count()
        loads = [asyncio.create_task(scene.load(lane)) for lane in range(LANES)]
        await asyncio.sleep(1.0)
        await strike(scene)
        ended = time.monotonic()
        while uplink.acknowledged_at < ended and time.monotonic() < ended + 2 * RECOVERY_SECONDS_MAX:
            await asyncio.sleep(0.02)
        recovery = (
            max(0.0, uplink.acknowledged_at - ended) if uplink.acknowledged_at > ended else float("inf")
        )
        await asyncio.sleep(1.0)
        scene.stopping = True
        _, pending = await asyncio.wait(loads, timeout=60)
        for task in pending:
            task.cancel()
        stored = Counter(int(orjson.loads(body)["id"], 16) for _, body in stored_in(running))
        grown = memory_mb() - before_mb
        await uplink.close()
        attempts_lost = _lost() - lost
        return Result(
            name,
            uplink.longest_seconds,
            recovery,
            len(stored) if set(stored) == set(range(scene.made)) else -len(stored),
            scene.made,
            sum(stored.values()) - len(stored),
            int(attempts_lost) * uplink.largest_batch,
            grown,
            threading.active_count() - threads,
            f"{attempts_lost:.0f} attempts lost",
        )


def _first(scene: Scene) -> Anomaly:
    record = anomaly_record(scene.made)
    scene.made += 1
    return Anomaly(record["id"].encode(), scene.made, orjson.dumps(record))


def _lost() -> float:
    value: Any = metrics.UPLINK_ATTEMPTS.labels("lost")._value.get()
    return float(value)


async def reconnect(times: int, side_by_side: int = 12) -> Result:
    """Connect, send and give the client up, again and again: nothing is left behind.

    What is compared is after a tenth of them: the first ones fill pools and caches.
    """
    limits = UplinkLimits(connect_seconds_max=30.0, send_seconds_max=15.0)  # many at once on few processors
    async with EventHubsStandIn(hub="anomalies", partitions=LANES) as hub:
        uplinks = [
            TimedUplink(connection_string_access(hub.connection_string), limits) for _ in range(side_by_side)
        ]
        encoder = EventEncoder("/farshore/north")

        async def work(uplink: TimedUplink, numbers: Iterator[int]) -> None:
            for number in numbers:
                await uplink.connect(number)
                batch = uplink.new_batch(number)
                record = anomaly_record(number)
                assert batch.append(encoder.encode(record["id"].encode(), orjson.dumps(record)))
                await uplink.send(batch)
                await uplink.discard()

        async def work_all(numbers: range) -> None:
            shared = iter(numbers)
            await asyncio.gather(*(work(uplink, shared) for uplink in uplinks))
            await asyncio.sleep(2.0)  # in which the hub sees its connections end

        await work_all(range(times // 10))
        before_mb, threads, files = memory_mb(), threading.active_count(), open_files()
        await work_all(range(times // 10, times))
        numbers = [int(orjson.loads(body)["id"], 16) for _, body in stored_in(hub)]
        return Result(
            f"{times:,} reconnects",
            max(uplink.longest_seconds for uplink in uplinks),
            0.0,
            len(set(numbers)),
            times,
            len(numbers) - len(set(numbers)),
            0,
            memory_mb() - before_mb,
            threading.active_count() - threads,
            f"{open_files() - files:+d} open files",
            limits,
        )


MEGABYTES_A_SECOND_MIN = 5.0
FAR_SECONDS = 0.1


async def far_away(count: int = 60_000) -> tuple[float, float]:
    """Megabytes a second, and milliseconds to the acknowledgement, with a hub that takes 100 ms over each.

    The hub is a process of its own. Bytes are those of batches, 700 for an anomaly with a body of 500.
    """
    async with hub_process() as (connection_string, control):
        await control.fault(FaultKind.DELAY, delay_seconds=FAR_SECONDS)
        uplink = TimedUplink(connection_string_access(connection_string), LIMITS)
        sender = Sender(uplink, EventEncoder("/farshore/north"), SenderLimits(BACKOFF, batches_max=LANES))
        lanes: list[list[Anomaly]] = [[] for _ in range(LANES)]
        for number in range(count):
            record = anomaly_record(number)
            lanes[number % LANES].append(Anomaly(record["id"].encode(), number, orjson.dumps(record)))
        # Links and batch sizes are found before the time is taken, as in any drain that is worth timing.
        await asyncio.gather(*(sender.deliver(n, lanes[n][: count // 20], Outcomes()) for n in range(LANES)))
        sent, took, batches = metrics_now()
        began = time.monotonic()
        await asyncio.gather(*(sender.deliver(n, lanes[n][count // 20 :], Outcomes()) for n in range(LANES)))
        seconds = time.monotonic() - began
        await uplink.close()
        sent_now, took_now, batches_now = metrics_now()
        return (sent_now - sent) / seconds / 1e6, (took_now - took) / (batches_now - batches) * 1_000


def metrics_now() -> tuple[float, float, float]:
    """Bytes acknowledged, seconds that took, batches."""
    samples = {
        sample.name: sample.value
        for metric in (metrics.UPLINK_BYTES, metrics.UPLINK_SEND_SECONDS)
        for family in metric.collect()
        for sample in family.samples
    }
    send = "farshore_uplink_send_seconds"
    return samples["farshore_uplink_bytes_total"], samples[f"{send}_sum"], samples[f"{send}_count"]


@asynccontextmanager
async def hub_process() -> AsyncIterator[tuple[str, Control]]:
    """The stand-in as a process: its connection string and its control door."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "farshore.local.eventhubs", "--partition-bytes-max", "10000000"),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        address = json.loads(await process.stdout.readline())
        yield address["connection_string"], Control(address["control_port"])
    finally:
        process.terminate()
        await process.wait()


def open_files() -> int:
    """Sockets included."""
    return len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0


def allow_many_files() -> None:
    """Hub and bridge are in one process here."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4_096) if hard > 0 else 4_096, hard))
