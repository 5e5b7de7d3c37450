"""Lanes beside each other: one link, one cap, live and backlog."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import orjson
import pytest

from farshore.agents.departures import Anomaly, Outcomes
from farshore.agents.hub_access import connection_string_access
from farshore.agents.hub_event import EventEncoder
from farshore.agents.sender import Sender, SenderLimits
from farshore.agents.uplink import EventHubUplink, HubBatch, UplinkLimits
from farshore.local.eventhubs import EventHubsStandIn, FaultKind
from farshore.streams.delivery.share import Traffic

from ..site import stored_in
from .senders import (
    LANE,
    NO_HUB,
    at_hub,
    deliver,
    leaving,
    sender_to,
)


async def test_lanes_send_side_by_side_and_one_fault_is_one_setback_for_all(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "farshore.agents.sender")
    async with EventHubsStandIn(hub="anomalies", partitions=4) as hub:
        sender, uplink = sender_to(hub, batches_max=4)

        async def lane(number: int, count: int) -> None:
            await sender.deliver(number, [leaving(number * 100 + n) for n in range(count)], Outcomes())

        await asyncio.gather(*(lane(number, 1) for number in range(4)))
        await hub.fault(FaultKind.DELAY, delay_seconds=1.0)
        began = time.monotonic()
        await asyncio.gather(*(lane(number, 2) for number in range(4)))
        assert 1.0 <= time.monotonic() - began < 3.5  # one after the other would take 4
        await hub.fault(FaultKind.RESET_BEFORE_STORE, 4)
        await asyncio.gather(*(lane(number, 3) for number in range(4)))
        await uplink.close()
        for number in range(4):
            wanted = [number * 100 + n for n in (0, 0, 1, 0, 1, 2)]
            assert at_hub(hub, number) == wanted
    told = [record.getMessage().split(":")[0] for record in caplog.records]
    assert told[:3] == ["uplink online", "uplink offline", "uplink online"]


@pytest.mark.parametrize(
    "cap",
    [{"events_per_second_max": 200.0}, {"kbits_per_second_max": 200 * 0.8 * 8}],
    ids=["events", "kbits"],
)
async def test_a_cap_holds_over_all_lanes_together(hub: EventHubsStandIn, cap: dict[str, float]) -> None:
    """400 anomalies of some 800 bytes at 200 a second: a second's worth may leave at once, the rest waits."""
    sender, uplink = sender_to(hub, **cap)
    await deliver(sender, leaving(0))
    began = time.monotonic()
    numbers = [range(1, 201), range(201, 401)]
    await asyncio.gather(
        *(sender.deliver(lane, [leaving(n) for n in numbers[lane]], Outcomes()) for lane in (0, 1))
    )
    seconds = time.monotonic() - began
    await uplink.close()
    assert len(stored_in(hub)) == 401
    sent = 400 if "events_per_second_max" in cap else sum(len(body) + 200 for _, body in stored_in(hub)) / 800
    assert seconds > sent / 200 - 1.5


async def test_live_and_backlog_share_a_capped_link_by_the_fraction(hub: EventHubsStandIn) -> None:
    """100 kB/s and more than enough of both on the same lanes: a quarter of the bytes is live."""
    sender, uplink = sender_to(hub, kbits_per_second_max=800.0, live_fraction=0.25)
    kinds = {Traffic.BACKLOG: range(4_000), Traffic.LIVE: range(4_000, 8_000)}
    both = [
        asyncio.create_task(
            sender.deliver(lane, [leaving(n) for n in numbers[lane::2]], Outcomes(), traffic=kind)
        )
        for kind, numbers in kinds.items()
        for lane in (0, 1)
    ]
    await asyncio.sleep(5)
    assert not any(task.done() for task in both)
    for task in both:
        task.cancel()
    await asyncio.gather(*both, return_exceptions=True)
    await uplink.close()
    numbers = [int(orjson.loads(body)["id"], 16) for _, body in stored_in(hub)]
    assert len(numbers) > 300
    share = sum(number in kinds[Traffic.LIVE] for number in numbers) / len(numbers)
    assert 0.15 < share < 0.35, f"{share:.2f} of {len(numbers)} were live"
    for kind in kinds.values():
        for lane in (0, 1):
            of_lane = [number for number in at_hub(hub, lane) if number in kind]
            assert of_lane == list(kind[lane::2][: len(of_lane)]), "in order within a kind and a lane"


async def test_a_backlog_has_the_whole_link_while_nothing_live_comes(hub: EventHubsStandIn) -> None:
    sender, uplink = sender_to(hub, live_fraction=0.9)
    numbers = range(500)
    outcomes = Outcomes()
    await asyncio.wait_for(sender.deliver(LANE, [leaving(n) for n in numbers], outcomes), 20)
    await uplink.close()
    assert at_hub(hub) == list(numbers)


class SlowAnswers(EventHubUplink):
    """A link of any width on which each answer takes a tenth of a second, whatever else is under way."""

    def __init__(self) -> None:
        super().__init__(connection_string_access(NO_HUB), UplinkLimits())

    async def connect(self, lane: int) -> None:
        """It is there."""

    def new_batch(self, lane: int, bytes_max: int | None = None) -> HubBatch:
        """One of 128 kB at most."""
        no_link: Any = None
        return HubBatch(no_link, str(lane), 131_072, 131_072, 0)

    async def send(self, batch: HubBatch) -> None:
        """Takes everything."""
        await asyncio.sleep(0.1)


async def drained_beside_trickles(live_fraction: float | None) -> tuple[int, int]:
    """Anomalies of 20 kB of a backlog, and live ones of 1 kB beside it, that leave in 1.5 s.

    Of each of 16 partitions three live ones come every 0.5 s, none of them at the same time.
    """
    limits = SenderLimits(batches_max=8, live_fraction=live_fraction)
    sender = Sender(SlowAnswers(), EventEncoder("/farshore/north"), limits)
    ends_at = time.monotonic() + 1.5
    settled = dict.fromkeys(Traffic, 0)

    async def lane(number: int, kind: Traffic) -> None:
        def count(_offset: int, _key: bytes) -> None:
            settled[kind] += 1

        count_and_size = {Traffic.BACKLOG: (100, 20_000), Traffic.LIVE: (3, 1_000)}[kind]
        if kind is Traffic.LIVE:
            await asyncio.sleep(0.5 * number / 16)
        while time.monotonic() < ends_at:
            some = [Anomaly(b"%032x" % n, n, b"x" * count_and_size[1]) for n in range(count_and_size[0])]
            await sender.deliver(number, some, Outcomes(count), lambda: time.monotonic() < ends_at, kind)
            if kind is Traffic.LIVE:
                await asyncio.sleep(0.4)

    await asyncio.gather(*(lane(number, kind) for number in range(16) for kind in Traffic))
    return settled[Traffic.BACKLOG], settled[Traffic.LIVE]


async def test_live_ones_that_wait_for_their_answer_keep_no_backlog_from_a_link_that_has_room() -> None:
    without, live_without = await drained_beside_trickles(None)
    for fraction in (0.2, 0.5):
        drained, live = await drained_beside_trickles(fraction)
        assert drained > without / 2, f"of {without} only {drained} with a fraction of {fraction}"
        assert live > live_without / 2
