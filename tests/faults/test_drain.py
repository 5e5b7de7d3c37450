"""How a backlog leaves: the severest first, through a crash in the middle, each anomaly once."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import orjson
import pytest

from farshore.local.eventhubs import EventHubsStandIn, FaultKind
from farshore.local.eventhubs.decode import decode_value
from farshore.local.eventhubs.values import Described

from ..site import Site, until, values_of
from ..site_hub import DATA_SECTION

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
