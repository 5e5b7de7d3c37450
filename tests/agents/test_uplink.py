"""The uplink with the real SDK: every fault ends in one of three errors, in time, and the next send works."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import pytest

from farshore.agents.errors import UplinkConfigError
from farshore.agents.hub_access import connection_string_access
from farshore.agents.hub_event import EventEncoder
from farshore.agents.uplink import EventHubUplink, UplinkLimits
from farshore.agents.uplink_errors import UplinkBusyError, UplinkLostError, UplinkTooLargeError
from farshore.local.eventhubs import EventHubsStandIn, FaultKind
from farshore.local.eventhubs.faults import DELIVERY, STANDING, TOKEN

from ..site import stored_in

# A loaded machine takes a second over a first send: far above it, only the fault strikes.
LIMITS = UplinkLimits(connect_seconds_max=5.0, send_seconds_max=4.0)
# Above the limit of a call: cancelling and closing a client take their own, short time.
SLACK_SECONDS = 3.0
ENCODER = EventEncoder("/farshore/north")
KEY = "bm90LWEtcmVhbC1rZXk="


def uplink_to(hub: EventHubsStandIn) -> EventHubUplink:
    return EventHubUplink(connection_string_access(hub.connection_string), LIMITS)


async def send(uplink: EventHubUplink, *bodies: bytes, lane: int = 0) -> None:
    await uplink.connect(lane)
    batch = uplink.new_batch(lane)
    for number, body in enumerate(bodies):
        assert batch.append(ENCODER.encode(b"%032x" % number, body))
    await uplink.send(batch)


async def test_a_lane_has_its_own_partition_of_the_hub_for_good(hub: EventHubsStandIn) -> None:
    uplink = uplink_to(hub)
    for lane in (0, 1, 2, 3, 0):
        await send(uplink, b"lane %d" % lane, lane=lane)
    await uplink.discard()
    assert stored_in(hub) == [
        (0, b"lane 0"),
        (0, b"lane 2"),
        (0, b"lane 0"),
        (1, b"lane 1"),
        (1, b"lane 3"),
    ]


async def test_a_batch_takes_what_the_link_takes_and_no_more() -> None:
    async with EventHubsStandIn(hub="anomalies", partitions=1, link_bytes_max=4_096) as hub:
        uplink = uplink_to(hub)
        await uplink.connect(0)
        batch = uplink.new_batch(0)
        count = 0
        while batch.append(ENCODER.encode(b"%032x" % count, b"x" * 100)):
            count += 1
        assert 10 < count < 16
        await uplink.send(batch)
        await uplink.discard()
        assert len(stored_in(hub)) == count


@dataclass(frozen=True)
class Story:
    """What a fault did to one send, and what was in the hub after the next one."""

    error: Exception | None
    seconds: float
    strikes: int
    stored: list[bytes]


async def tell(kind: FaultKind) -> Story:
    """Send before, during and after a fault; of the standing ones, twice during."""
    async with EventHubsStandIn(hub="anomalies", partitions=1) as hub:
        uplink = uplink_to(hub)
        # A token is asked for on the way to a new connection; everything else strikes a standing one.
        if kind not in TOKEN:
            await send(uplink, b"before")
        await hub.fault(kind, None if kind in STANDING else 1)
        error, longest = None, 0.0
        for _ in range(2 if kind in STANDING else 1):  # on the old connection, then on the way to a new one
            began = time.monotonic()
            try:
                await send(uplink, b"during")
            except (UplinkLostError, UplinkBusyError) as caught:
                error = caught
            longest = max(longest, time.monotonic() - began)
        strikes = hub.stats().fault_strikes
        await hub.clear()
        await send(uplink, b"after")
        await uplink.discard()
        return Story(error, longest, strikes, [body for _, body in stored_in(hub)])


LOST = [
    FaultKind.REFUSE,
    FaultKind.BLACK_HOLE,
    FaultKind.RESET_BEFORE_STORE,
    FaultKind.DROP_AFTER_STORE,
    FaultKind.NO_ACK,
    FaultKind.REJECT,
    FaultKind.RELEASE,
    FaultKind.DETACH,
    FaultKind.END_SESSION,
    FaultKind.TOKEN_EXPIRED,
    FaultKind.CLOSE_CONNECTION,
    FaultKind.TOKEN_REFUSED,
    FaultKind.TOKEN_IGNORED,
]


@pytest.fixture(scope="module")
def stories() -> dict[FaultKind, Story]:
    """Five faults at a time, each with a hub of its own: nearly all of it is waiting."""
    at_once = asyncio.Semaphore(5)

    async def tell_in_turn(kind: FaultKind) -> Story:
        async with at_once:
            return await tell(kind)

    async def tell_all() -> list[Story]:
        return await asyncio.gather(*map(tell_in_turn, [*LOST, FaultKind.BUSY]))

    return dict(zip([*LOST, FaultKind.BUSY], asyncio.run(tell_all()), strict=True))


@pytest.mark.parametrize("kind", LOST)
def test_a_broken_link_is_told_in_time_and_the_next_send_works(
    stories: dict[FaultKind, Story], kind: FaultKind
) -> None:
    story = stories[kind]
    assert isinstance(story.error, UplinkLostError)
    assert story.seconds < LIMITS.connect_seconds_max + SLACK_SECONDS
    stored = kind in (FaultKind.DROP_AFTER_STORE, FaultKind.NO_ACK)
    assert story.stored == [b"before"] * (kind not in TOKEN) + [b"during"] * stored + [b"after"]


def test_a_busy_service_is_told_apart_from_a_broken_link(stories: dict[FaultKind, Story]) -> None:
    assert isinstance(stories[FaultKind.BUSY].error, UplinkBusyError)
    assert stories[FaultKind.BUSY].stored == [b"before", b"after"]


@pytest.mark.parametrize("kind", sorted(DELIVERY - {FaultKind.DELAY}))
def test_one_send_is_one_try_whatever_the_sdk_would_like(
    stories: dict[FaultKind, Story], kind: FaultKind
) -> None:
    assert stories[kind].strikes == 1


async def test_a_batch_larger_than_the_link_is_told_apart_and_the_next_one_goes(
    hub: EventHubsStandIn,
) -> None:
    uplink = uplink_to(hub)
    await uplink.connect(0)
    batch = uplink.new_batch(0)
    # As when the service lowers its limit under a standing link.
    batch.link_bytes_max = 10 * 1024 * 1024
    assert batch.append(ENCODER.encode(b"0" * 32, b"x" * 2 * 1024 * 1024))
    with pytest.raises(UplinkTooLargeError):
        await uplink.send(batch)
    await send(uplink, b"after")
    await uplink.discard()
    assert [body for _, body in stored_in(hub)] == [b"after"]


async def test_a_send_that_is_cancelled_leaves_no_client_behind(hub: EventHubsStandIn) -> None:
    uplink = uplink_to(hub)
    await send(uplink, b"before")
    await hub.fault(FaultKind.BLACK_HOLE)
    sending = asyncio.create_task(send(uplink, b"during"))
    await asyncio.sleep(0.5)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    await hub.clear()
    await send(uplink, b"after")
    await uplink.discard()
    assert [body for _, body in stored_in(hub)] == [b"before", b"after"]


@pytest.mark.parametrize(
    "connection_string",
    [
        "",
        KEY,
        f"Endpoint=sb://x.example/;SharedAccessKey={KEY}",
        f"Endpoint=sb://x.example/;SharedAccessKeyName=k;SharedAccessKey={KEY}",
        f"Endpoint=;SharedAccessKeyName=k;SharedAccessKey={KEY};EntityPath=h",
        f"SharedAccessKeyName=k;SharedAccessKey={KEY};EntityPath=h",
    ],
)
def test_an_unusable_connection_string_is_refused_without_its_secret(connection_string: str) -> None:
    with pytest.raises(UplinkConfigError, match="FARSHORE_EVENTHUB_CONNECTION_STRING") as refused:
        connection_string_access(connection_string)
    assert KEY not in str(refused.value)
    assert refused.value.__suppress_context__
