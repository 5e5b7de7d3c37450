"""The bridge against every way an uplink fails: nothing is lost, repeats are bounded, order is kept.

Anomalies are written straight into the store; the bridge is a real process, the SDK is the real one.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter

import orjson
import psutil
import pytest

from farshore.local.eventhubs import FaultKind

from ..site import Site, Worker, stored_in, until, values_of

pytestmark = pytest.mark.broker

COUNT = 200


def ids_at_hub(site: Site) -> list[int]:
    """Numbers of the anomalies stored in the hub; insists that first occurrences keep the store's order."""
    numbers = []
    newest: dict[int, int] = {}
    assert site.hub is not None
    for partition, body in stored_in(site.hub):
        number = int(orjson.loads(body)["id"], 16)
        assert partition == number % 4
        if number not in numbers:
            assert number > newest.get(partition, -1), f"{number} came after {newest[partition]}"
            newest[partition] = number
        numbers.append(number)
    return numbers


async def check_all_delivered(site: Site, count: int) -> int:
    """Everything is at the hub and acknowledged, nothing else is; returns how many were repeats."""
    await site.delivered()
    numbers = ids_at_hub(site)
    assert set(numbers) == set(range(count))
    deliveries = values_of(await site.records(site.settings.topic_deliveries))
    assert {int(value["id"], 16) for value in deliveries} == set(range(count))
    assert {value["outcome"] for value in deliveries} == {"acknowledged"}
    return len(numbers) - count


def uplink_lines(worker: Worker) -> list[str]:
    """What the log says of the uplink, by state."""
    return [
        line.split("uplink ")[1].split(":")[0]
        for line in worker.lines("INFO", "WARNING")
        if "uplink " in line
    ]


async def test_an_uplink_that_is_down_at_start_and_again_later_costs_nothing_but_time(site: Site) -> None:
    assert site.hub is not None
    await site.hub.fault(FaultKind.REFUSE)
    bridge = await site.start("bridge")
    await site.publish_anomalies(range(COUNT))
    await until(lambda: bridge.metric("farshore_uplink_attempts_total", result="lost") >= 4, "attempts lost")
    assert uplink_lines(bridge) == ["offline"]
    await site.hub.clear()
    assert await check_all_delivered(site, COUNT) == 0
    lost_at = bridge.metric("farshore_uplink_attempts_total", result="lost")
    await site.hub.fault(FaultKind.REFUSE)
    await site.publish_anomalies(range(COUNT, 2 * COUNT))
    await until(
        lambda: bridge.metric("farshore_uplink_attempts_total", result="lost") >= lost_at + 4, "lost again"
    )
    await site.hub.clear()
    assert await check_all_delivered(site, 2 * COUNT) == 0
    assert uplink_lines(bridge) == ["offline", "online"] * 2
    await bridge.stop()


async def test_a_black_hole_longer_than_the_poll_interval_does_not_end_the_bridge(site: Site) -> None:
    """Stock Faust never consumes again after this: no error, no rebalance, assignment unchanged."""
    assert site.hub is not None
    interval_seconds = 3
    bridge = await site.start(
        "bridge",
        kafka_max_poll_interval_seconds=str(interval_seconds),
        kafka_session_timeout_seconds="6",
        # A batch in hand fills all the room there is, so that reading stops as it does in a long outage.
        bridge_outstanding_bytes_max=str(1024 * 1024),
    )
    await site.publish_anomalies(range(40))
    await site.delivered()
    members = await site.members(site.settings.bridge_group)
    assert len(members) == 1
    await site.hub.fault(FaultKind.BLACK_HOLE)
    began = time.monotonic()
    await site.publish_anomalies(range(40, COUNT), readings=1_000)
    while time.monotonic() - began < interval_seconds * 2.5:
        assert await site.members(site.settings.bridge_group) == members
        await asyncio.sleep(1)
    await site.hub.clear()
    await check_all_delivered(site, COUNT)
    await site.publish_anomalies(range(COUNT, COUNT + 40))
    await check_all_delivered(site, COUNT + 40)
    assert await site.members(site.settings.bridge_group) == members
    assert uplink_lines(bridge) == ["online", "offline", "online"]


async def test_a_bridge_killed_in_mid_delivery_and_while_the_uplink_is_away_loses_nothing(
    site: Site, seed: int
) -> None:
    assert site.hub is not None
    choice = random.Random(seed)
    count = 1_500
    await site.publish_anomalies(range(count))
    # A slow line and small batches: kills strike in the middle, and the bound on repeats means something.
    await site.hub.fault(FaultKind.BANDWIDTH_LIMIT, bytes_per_second=60_000)
    small = {"kafka_session_timeout_seconds": "6", "uplink_kbits_per_second_max": "480"}
    bridge = await site.start("bridge", **small)
    await until(lambda: site.hub.stats().connections_accepted > 0, "connected")
    await asyncio.sleep(choice.uniform(0.5, 4.0))
    bridge.kill()
    await site.hub.fault(FaultKind.REFUSE)
    bridge = await site.start("bridge", **small)
    await until(lambda: bridge.metric("farshore_uplink_attempts_total", result="lost") >= 1, "lost")
    bridge.kill()
    await site.hub.clear()
    await site.start("bridge", **small)
    repeats = await check_all_delivered(site, count)
    deliveries = values_of(await site.records(site.settings.topic_deliveries))
    largest = max(Counter(value["batch"] for value in deliveries).values())
    # Of each of the four partitions one batch on the line and one whose outcome was on its way.
    assert repeats <= 2 * 4 * largest < count


async def test_what_deliveries_holds_is_not_sent_again_whatever_was_committed(site: Site) -> None:
    """The bridge dies before its first commit, and the scorer has written some anomalies a second time."""
    assert site.hub is not None
    bridge = await site.start("bridge", kafka_session_timeout_seconds="6", commit_interval_seconds="60")
    await site.publish_anomalies(range(COUNT))

    async def all_written() -> bool:
        return len(await site.records(site.settings.topic_deliveries)) == COUNT

    await until(all_written, "all outcomes written")
    bridge.kill()
    assert not await site.committed(site.settings.bridge_group, site.settings.topic_anomalies)
    await site.publish_anomalies(range(COUNT - 40, COUNT + 10))
    bridge = await site.start("bridge", kafka_session_timeout_seconds="6")
    assert await check_all_delivered(site, COUNT + 10) == 0
    assert bridge.metric("farshore_repeats_avoided_total") == COUNT + 40
    await bridge.stop()


async def test_a_bridge_stops_in_good_order_while_the_uplink_is_a_black_hole(site: Site) -> None:
    assert site.hub is not None
    await site.hub.fault(FaultKind.BLACK_HOLE)
    bridge = await site.start("bridge")
    await site.publish_anomalies(range(20))
    await until(lambda: site.hub.stats().connections_accepted > 0, "trying")
    await bridge.stop()
    await site.hub.clear()
    await site.start("bridge")
    await check_all_delivered(site, 20)


async def test_an_uplink_that_flaps_every_other_second_loses_nothing_and_repeats_little(
    site: Site, seed: int
) -> None:
    assert site.hub is not None
    choice = random.Random(seed)
    bridge = await site.start("bridge", uplink_kbits_per_second_max="480")
    publishing = asyncio.create_task(site.publish_anomalies(range(1_200)))
    kinds = [FaultKind.REFUSE, FaultKind.BLACK_HOLE, FaultKind.RESET_BEFORE_STORE, FaultKind.DROP_AFTER_STORE]
    flaps = 6
    for _ in range(flaps):
        await asyncio.sleep(choice.uniform(0.5, 2.0))
        kind = choice.choice(kinds)
        await site.hub.fault(kind, 1 if kind in kinds[2:] else None)
        await asyncio.sleep(choice.uniform(0.5, 2.0))
        await site.hub.clear()
    await publishing
    repeats = await check_all_delivered(site, 1_200)
    deliveries = values_of(await site.records(site.settings.topic_deliveries))
    largest = max(Counter(value["batch"] for value in deliveries).values())
    assert repeats <= flaps * 4 * largest
    assert uplink_lines(bridge)[-1] == "online"
    assert len(uplink_lines(bridge)) <= 2 * flaps + 1
    await bridge.stop()


async def test_an_outage_costs_next_to_nothing_while_it_lasts(site: Site) -> None:
    """Half a percent of a processor, no growth, and no log; here with attempts twice a second."""
    assert site.hub is not None
    await site.hub.fault(FaultKind.REFUSE)
    bridge = await site.start("bridge", uplink_backoff_seconds_max="2", lag_interval_seconds="5")
    await site.publish_anomalies(range(8_000), readings=16)
    await until(lambda: bridge.metric("farshore_uplink_attempts_total", result="lost") >= 5, "attempts lost")
    process = psutil.Process(bridge.process.pid)
    lines = len(bridge.log.splitlines())
    began, used, held = time.monotonic(), sum(process.cpu_times()[:2]), process.memory_info().rss
    threads, files = process.num_threads(), process.num_fds()
    await asyncio.sleep(8)
    share = (sum(process.cpu_times()[:2]) - used) / (time.monotonic() - began)
    # 0.6 % on an idle machine; processor time itself grows on one that is short of caches.
    assert share < 0.02
    assert process.memory_info().rss < held + 8_000_000
    assert process.num_threads() <= threads + 1
    assert process.num_fds() <= files + 6
    assert len(bridge.log.splitlines()) == lines
    assert bridge.metric("farshore_uplink_waited_seconds_total", reason="offline") > 8
    bridge.kill()
