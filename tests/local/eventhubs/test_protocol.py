"""The protocol below the SDK: deliveries in frames, credit, windows, sessions, heartbeats."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvloop

from farshore.local.eventhubs import EventHubsStandIn
from farshore.local.eventhubs.backend import Limits
from farshore.local.eventhubs.composites import to_value
from farshore.local.eventhubs.encode import encode_value
from farshore.local.eventhubs.frames import (
    AMQP_HEADER,
    EMPTY_FRAME,
    SASL_HEADER,
    build_frame,
)
from farshore.local.eventhubs.performatives import (
    RECEIVER,
    Accepted,
    Begin,
    Close,
    Detach,
    Disposition,
    End,
    Flow,
    Open,
    Rejected,
    Released,
    SaslInit,
    Transfer,
)
from farshore.local.eventhubs.values import Described, Symbol, UInt, ULong

WAIT_SECONDS = 20.0


def event(body: bytes) -> bytes:
    return encode_value(Described(ULong(0x75), body))


async def test_sasl_offers_anonymous_and_is_followed_by_amqp(peers: Any, stand_in: EventHubsStandIn) -> None:
    peer = await peers.connect(stand_in)
    # Pipelined: everything at once, before any answer.
    init = build_frame(0, SaslInit(Symbol("ANONYMOUS")), kind=1)
    peer.writer.write(SASL_HEADER + init + AMQP_HEADER + build_frame(0, Open("peer")))
    answer = await asyncio.wait_for(peer.reader.readuntil(AMQP_HEADER), WAIT_SECONDS)
    assert answer.startswith(SASL_HEADER)
    assert b"ANONYMOUS" in answer
    assert (await peer.expect(Open)).container_id == "event-hubs-stand-in"
    peer.writer.close()


async def test_another_protocol_is_told_which_one_is_spoken_here(
    peers: Any, stand_in: EventHubsStandIn
) -> None:
    peer = await peers.connect(stand_in)
    peer.writer.write(b"GET / HTTP/1.1\r\n\r\n")
    assert await asyncio.wait_for(peer.reader.readexactly(8), WAIT_SECONDS) == AMQP_HEADER
    peer.writer.close()


async def test_a_delivery_in_many_frames_and_one_without_a_batch_are_stored(
    peers: Any,
    stand_in: EventHubsStandIn,
) -> None:
    peer = await peers.opened(stand_in)
    assert (await peer.produce()).max_message_size == 1_048_576
    batch = b"".join(event(event(b"%d" % number)) for number in range(50))
    for start in range(0, len(batch), 100):
        peer.transfer(0, batch[start : start + 100], more=start + 100 < len(batch), batch=True)
    peer.transfer(1, event(b"alone"))
    for number in (0, 1):
        disposition = await peer.expect(Disposition)
        assert (disposition.first, disposition.settled) == (number, True)
        assert disposition.state == to_value(Accepted())
    stored = [one.data for one in stand_in.hub.partitions["0"].read(0, 100)]
    assert stored == [event(b"%d" % number) for number in range(50)] + [event(b"alone")]
    peer.writer.close()


async def test_a_delivery_larger_than_the_link_is_rejected_and_not_kept_meanwhile(peers: Any) -> None:
    async with EventHubsStandIn(partitions=1, link_bytes_max=1_000) as stand_in:
        peer = await peers.opened(stand_in)
        assert (await peer.produce()).max_message_size == 1_000
        for part in range(200):
            peer.transfer(0, b"x" * 1_000, more=part < 199)
        disposition = await peer.expect(Disposition)
        assert isinstance(disposition.state, Described)
        assert disposition.state.descriptor == Rejected.code
        assert "amqp:link:message-size-exceeded" in repr(disposition.state)
        assert stand_in.stats().events == 0
        peer.writer.close()


async def test_credit_is_renewed_for_a_producer_that_obeys_it(peers: Any) -> None:
    async with EventHubsStandIn(partitions=1, limits=Limits(link_credit=4, session_window=4)) as stand_in:
        peer = await peers.opened(stand_in)
        await peer.produce()
        grants = 0
        for number in range(20):
            peer.transfer(number, event(b"x"))
            while isinstance((await peer.next())[0], Flow):
                grants += 1
        assert grants >= 5
        assert stand_in.stats().events == 20
        peer.writer.close()


async def test_an_aborted_delivery_is_forgotten(peers: Any, stand_in: EventHubsStandIn) -> None:
    peer = await peers.opened(stand_in)
    await peer.produce()
    peer.transfer(0, b"half", more=True)
    peer.send(Transfer(UInt(0), more=False, aborted=True))
    peer.transfer(1, event(b"whole"))
    assert (await peer.expect(Disposition)).first == 1
    assert stand_in.stats().events == 1
    peer.writer.close()


@pytest.mark.parametrize(
    "address",
    [
        "",
        "other",
        "anomalies/Partitions/9",
        "anomalies/ConsumerGroups/$default/Partitions/0",
        "amqps://h:1/anomalies/x",
    ],
)
async def test_an_address_that_leads_nowhere_is_refused_and_the_session_goes_on(
    peers: Any, stand_in: EventHubsStandIn, address: str
) -> None:
    peer = await peers.opened(stand_in)
    answer = await peer.produce(address)
    assert (answer.source, answer.target) == (None, None)
    detach = await peer.expect(Detach)
    assert detach.error is not None
    assert detach.error.condition == "amqp:not-found"
    await peer.produce("amqps://localhost:5672/ANOMALIES/Partitions/1")
    peer.writer.close()


async def test_a_consumer_is_sent_no_more_than_its_credit_and_window(
    peers: Any, stand_in: EventHubsStandIn
) -> None:
    stand_in.hub.partitions["0"].append(tuple(event(b"%d" % number) for number in range(10)))
    peer = await peers.opened(stand_in)
    await peer.consume()
    assert await peer.nothing_comes()
    peer.grant(2)
    assert [(await peer.expect(Transfer)).delivery_id for _ in range(2)] == [0, 1]
    assert await peer.nothing_comes()
    peer.grant(5, received=2, window=1)
    assert (await peer.expect(Transfer)).delivery_id == 2
    assert await peer.nothing_comes()
    # A flow of the session alone opens the window; the credit is still there.
    peer.send(Flow(UInt(3), UInt(100), UInt(0), UInt(1)))
    assert [(await peer.expect(Transfer)).delivery_id for _ in range(4)] == [3, 4, 5, 6]
    assert await peer.nothing_comes()
    peer.writer.close()


async def test_a_consumer_starts_where_its_selector_says(peers: Any, stand_in: EventHubsStandIn) -> None:
    partition = stand_in.hub.partitions["0"]
    partition.append((event(b"0"), event(b"1"), event(b"2")))
    peer = await peers.opened(stand_in)
    await peer.consume(selector="amqp.annotation.x-opt-sequence-number > '1'")
    peer.grant(10)
    assert (await peer.next())[1].endswith(event(b"2"))
    latest = await peers.opened(stand_in)
    await latest.consume(selector="amqp.annotation.x-opt-offset > '@latest'")
    latest.grant(10)
    assert await latest.nothing_comes()
    partition.append((event(b"new"),))
    assert (await latest.next())[1].endswith(event(b"new"))
    peer.writer.close()
    latest.writer.close()


async def test_a_selector_that_is_not_understood_refuses_the_link(
    peers: Any, stand_in: EventHubsStandIn
) -> None:
    peer = await peers.opened(stand_in)
    assert (await peer.consume(selector="amqp.annotation.colour > 'red'")).source is None
    detach = await peer.expect(Detach)
    assert detach.error is not None
    assert detach.error.condition == "amqp:invalid-field"
    peer.writer.close()


async def test_a_consumer_that_drains_gets_what_is_there_and_is_told_that_its_credit_is_gone(
    peers: Any,
    stand_in: EventHubsStandIn,
) -> None:
    stand_in.hub.partitions["0"].append((event(b"only"),))
    peer = await peers.opened(stand_in)
    await peer.consume()
    peer.grant(10, drain=True)
    await peer.expect(Transfer)
    flow = await peer.expect(Flow)
    assert (flow.delivery_count, flow.link_credit, flow.drain) == (10, 0, True)
    stand_in.hub.partitions["0"].append((event(b"later"),))
    assert await peer.nothing_comes()
    peer.writer.close()


async def test_an_unsettled_consumers_outcome_is_settled(peers: Any, stand_in: EventHubsStandIn) -> None:
    stand_in.hub.partitions["0"].append((event(b"only"),))
    peer = await peers.opened(stand_in)
    await peer.consume(mode=0)
    peer.grant(1)
    assert (await peer.expect(Transfer)).settled is False
    peer.send(Disposition(RECEIVER, UInt(0), UInt(0), settled=False, state=to_value(Released())))
    assert (await peer.expect(Disposition)).settled is True
    peer.writer.close()


async def test_a_large_event_reaches_a_consumer_in_frames_it_can_take(
    peers: Any, stand_in: EventHubsStandIn
) -> None:
    stand_in.hub.partitions["0"].append((event(b"x" * 5_000),))
    peer = await peers.opened(stand_in, max_frame_size=UInt(512))
    await peer.consume()
    peer.grant(1)
    body = b""
    for _ in range(20):
        performative, payload = await peer.next()
        assert isinstance(performative, Transfer)
        assert len(payload) <= 512
        body += payload
        if not performative.more:
            break
    assert body.endswith(b"x" * 5_000)
    peer.writer.close()


async def test_frames_after_the_end_of_a_session_are_passed_over_and_its_channel_can_be_used_again(
    peers: Any,
    stand_in: EventHubsStandIn,
) -> None:
    peer = await peers.opened(stand_in)
    await peer.produce()
    peer.send(End())
    await peer.expect(End)
    peer.send(Detach(UInt(0), closed=True))
    peer.send(Begin(None, UInt(0), UInt(10), UInt(10)))
    await peer.expect(Begin)
    await peer.produce()
    peer.send(Close(), channel=0)
    await peer.expect(Close)
    peer.writer.close()


async def test_the_server_keeps_an_idle_peer_alive_and_drops_one_that_is_silent_for_too_long(
    peers: Any,
) -> None:
    async with EventHubsStandIn(limits=Limits(idle_timeout_seconds=1.5)) as stand_in:
        peer = await peers.opened(stand_in, idle_timeout=UInt(100))
        assert await asyncio.wait_for(peer.reader.readexactly(8), WAIT_SECONDS) == EMPTY_FRAME
        began = time.monotonic()
        while time.monotonic() - began < 1.8:
            peer.writer.write(EMPTY_FRAME)
            await asyncio.sleep(0.05)
        assert stand_in.stats().connections == 1
        assert await peer.closed_with() == "amqp:connection:forced"


async def test_one_connection_too_many_is_reset_and_the_others_stay(peers: Any) -> None:
    async with EventHubsStandIn(limits=Limits(connections_max=2)) as stand_in:
        first, second = await peers.opened(stand_in), await peers.opened(stand_in)
        with pytest.raises(ConnectionError):
            await peers.opened(stand_in)
        await first.produce()
        await second.produce()
        first.writer.close()
        second.writer.close()


def test_the_stand_in_runs_on_uvloop_too(peers: Any) -> None:
    async def run() -> None:
        async with EventHubsStandIn(partitions=1) as stand_in:
            peer = await peers.opened(stand_in)
            await peer.produce()
            peer.transfer(0, event(b"acknowledged"))
            await peer.expect(Disposition)
            await stand_in.fault("drop-after-store")
            peer.transfer(1, event(b"not acknowledged"))
            with pytest.raises(ConnectionResetError):
                await peer.expect(Disposition)
            assert stand_in.stats().events == 2

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


@pytest.fixture(autouse=True)
async def everything_is_closed(stand_in: EventHubsStandIn) -> AsyncIterator[None]:
    yield
    async with asyncio.timeout(WAIT_SECONDS):
        while stand_in.stats().connections:
            await asyncio.sleep(0.01)
