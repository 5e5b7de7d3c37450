"""How a backlog leaves: the severest first, or beside what is live; through a crash, each anomaly once."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count, islice, pairwise

import orjson
import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from farshore.agents.admin import site_topics
from farshore.agents.live_ahead import BEHIND_MS
from farshore.local.eventhubs import EventHubsStandIn, FaultKind
from farshore.local.eventhubs.decode import decode_value
from farshore.local.eventhubs.values import Described

from ..site import Site, until, values_of
from ..site_hub import DATA_SECTION
from ..site_worker import WAIT_SECONDS_MAX

pytestmark = pytest.mark.broker

COUNT = 1_200
LATER = 40
RANK = {"critical": 0, "high": 1, "medium": 2, "low": 3}


def severity(number: int) -> str:
    """Of ten of a partition: one critical, two high, two medium, five low."""
    return ["critical", "high", "high", "medium", "medium", *["low"] * 5][number // 4 % 10]


def arrivals(hub: EventHubsStandIn) -> list[tuple[int, int, dict[str, object]]]:
    """Time, partition and body of each event, in the order in which the hub took them."""
    found = []
    for name, partition in hub.hub.partitions.items():
        for event in partition.read(0, 1_000_000):
            position = 0
            while position < len(event.data):
                section, position = decode_value(event.data, position)
                if isinstance(section, Described) and section.descriptor == DATA_SECTION:
                    assert isinstance(section.value, bytes)
                    found.append((event.enqueued_ms, int(name), orjson.loads(section.value)))
    return sorted(found, key=lambda arrival: arrival[0])


def first_arrivals(hub: EventHubsStandIn) -> dict[int, tuple[int, int]]:
    """Each number's first arrival: its time and its place among all."""
    found: dict[int, tuple[int, int]] = {}
    for place, (at, _, body) in enumerate(arrivals(hub)):
        found.setdefault(int(str(body["id"]), 16), (at, place))
    return found


async def test_the_severest_of_the_whole_backlog_go_first_also_over_a_crash_in_the_middle(site: Site) -> None:
    hub = site.hub
    assert hub is not None
    await hub.fault(FaultKind.REFUSE)
    await site.publish_anomalies(range(COUNT), severity=severity)
    # Slow enough for the crash to strike in the middle: some 370 events a second.
    slow = {"drain": "severe-first", "uplink_kbits_per_second_max": "1000"}
    bridge = await site.start("bridge", **slow, kafka_session_timeout_seconds="6")
    await until(lambda: bridge.metric("farshore_uplink_attempts_total", result="lost") >= 2, "lost")
    await hub.clear()
    await until(lambda: hub.stats().events > COUNT * 0.55, "the severer ones sent")
    bridge.kill()
    before_crash = hub.stats().events
    assert before_crash < COUNT
    await site.publish_anomalies(range(COUNT, COUNT + LATER), severity=lambda _number: "critical")
    bridge = await site.start("bridge", **slow)
    await site.delivered()
    await bridge.stop()

    seen: set[int] = set()
    firsts = []
    for at, partition, body in arrivals(hub):
        number = int(str(body["id"]), 16)
        if number not in seen:
            seen.add(number)
            firsts.append((at, partition, number, RANK[str(body["severity"])]))
    assert seen == set(range(COUNT + LATER))
    # Of what was there from the beginning: severest first over all partitions together.
    backlog = [(at, rank) for at, _, number, rank in firsts if number < COUNT]
    for rank in range(3):
        last = max(at for at, of in backlog if of == rank)
        assert last <= min(at for at, of in backlog if of == rank + 1), (
            f"some of {rank} came after {rank + 1}"
        )
    # What came later and is critical did not wait for those that are low.
    last_low = max(at for at, rank in backlog if rank == 3)
    assert max(at for at, _, number, _ in firsts if number >= COUNT) < last_low
    # Within a partition and a severity, and so within a device: as they arose.
    for partition in range(4):
        for rank in range(4):
            numbers = [number for _, at, number, of in firsts if at == partition and of == rank]
            assert all(one < two for one, two in pairwise(numbers))
    deliveries = values_of(await site.records(site.settings.topic_deliveries))
    assert {value["outcome"] for value in deliveries} == {"acknowledged"}
    largest = max(Counter(value["batch"] for value in deliveries).values())
    assert hub.stats().events - (COUNT + LATER) <= 2 * 4 * largest


WAITED = 3_000
MEASURED = 40
AFTER_CRASH = 200


async def trickle(site: Site, numbers: Iterator[int], found_ms: dict[int, int]) -> list[int]:
    """One anomaly a partition, with the time at which each stands in the store; some four times a second."""
    some = list(islice(numbers, 4))
    await site.publish_anomalies(range(some[0], some[-1] + 1))
    found_ms |= dict.fromkeys(some, time.time_ns() // 1_000_000)
    await asyncio.sleep(0.2)
    return some


async def trickle_until(
    site: Site, numbers: Iterator[int], found_ms: dict[int, int], done: Callable[[], bool]
) -> None:
    """Until `done`, or the longest wait of a test has passed."""
    ends_at = time.monotonic() + WAIT_SECONDS_MAX
    while not done():
        assert time.monotonic() < ends_at
        await trickle(site, numbers, found_ms)


async def older_by(site: Site, seconds: float) -> int:
    """A time so long ago, which the store takes from its producers from now on."""
    spec = next(spec for spec in site_topics(site.settings) if spec.name == site.settings.topic_anomalies)
    config = spec.creation_config | {"message.timestamp.type": "CreateTime"}
    async with site.admin() as admin:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, spec.name, config)])
    return time.time_ns() // 1_000_000 - int(seconds * 1_000)


async def test_what_comes_while_a_backlog_drains_goes_beside_it_also_over_a_crash_in_the_middle(
    site: Site,
) -> None:
    hub = site.hub
    assert hub is not None
    await hub.fault(FaultKind.REFUSE)
    await site.publish_anomalies(range(WAITED), stamp_ms=await older_by(site, 2 * BEHIND_MS / 1_000))
    # Some 150 events a second, so that the backlog takes 20 s and what comes live is a tenth of it.
    slow = {
        "uplink_kbits_per_second_max": "400",
        "drain_live_fraction": "0.3",
        "kafka_session_timeout_seconds": "6",
    }
    bridge = await site.start("bridge", **slow)
    await hub.clear()
    numbers, found_ms = count(WAITED), dict[int, int]()
    await until(lambda: hub.stats().events > 0, "the line is back")

    def has_a_reader() -> bool:
        return bridge.metric("farshore_sent_beside_total") > 0

    await trickle_until(site, numbers, found_ms, has_a_reader)
    live = [number for _ in range(MEASURED // 4) for number in await trickle(site, numbers, found_ms)]
    await until(lambda: set(live) <= first_arrivals(hub).keys(), "what is live arrived")
    bridge.kill()
    before = first_arrivals(hub)
    backlog_ms = [at for number, (at, _) in before.items() if number < WAITED]
    # However quick the machine is: each of them overtook most of what would have been before it.
    for number in live:
        at_first, at_last = (
            WAITED - sum(at <= moment for at in backlog_ms)
            for moment in (found_ms[number], before[number][0])
        )
        assert at_last > at_first / 2, f"of {at_first} before {number} only {at_last} were left behind it"
    assert len(backlog_ms) < WAITED - AFTER_CRASH, "the crash came too late to be in the middle"
    for partition in range(4):
        for kind in (range(WAITED), live):
            of_kind = [number for number in kind if number % 4 == partition and number in before]
            places = [before[number][1] for number in of_kind]
            assert places == sorted(places), "in order within a partition's backlog, and within what is live"

    # The other order of a backlog goes with it too.
    bridge = await site.start("bridge", **slow, drain="severe-first")
    await trickle_until(site, numbers, found_ms, has_a_reader)
    await site.delivered()
    await bridge.stop()
    assert first_arrivals(hub).keys() == set(range(WAITED)) | found_ms.keys()
    deliveries = values_of(await site.records(site.settings.topic_deliveries))
    assert {value["outcome"] for value in deliveries} == {"acknowledged"}
    largest = max(Counter(value["batch"] for value in deliveries).values())
    # Two batches of each lane, of which a partition has two here.
    assert hub.stats().events - (WAITED + len(found_ms)) <= 2 * 8 * largest
    assert largest < WAITED / 50, "or this bound would prove nothing"
