"""The protocol below the SDK: what a peer may do wrong, and that only its own connection suffers for it."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from farshore.local.eventhubs import EventHubsStandIn
from farshore.local.eventhubs.backend import Limits
from farshore.local.eventhubs.composites import Composite, encode_composite, to_value
from farshore.local.eventhubs.encode import encode_value
from farshore.local.eventhubs.frames import (
    AMQP_HEADER,
    EMPTY_FRAME,
    SASL_HEADER,
    FrameReader,
    build_frame,
    read_performative,
    transfer_frame,
)
from farshore.local.eventhubs.performatives import (
    RECEIVER,
    SENDER,
    Accepted,
    Attach,
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
from farshore.local.eventhubs.positions import SELECTOR
from farshore.local.eventhubs.publications import BATCH_FORMAT
from farshore.local.eventhubs.values import Described, Symbol, UByte, UInt, ULong, UShort, Value

WAIT_SECONDS = 3.0
Kind = TypeVar("Kind", bound=Composite)


def terminus(code: int, address: str) -> Described:
    return Described(ULong(code), [address])


def event(body: bytes) -> bytes:
    return encode_value(Described(ULong(0x75), body))


class Peer:
    """A client that says exactly what a test tells it to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.frames = FrameReader(1_048_576)

    @classmethod
    async def connect(cls, stand_in: EventHubsStandIn) -> Peer:
        return cls(*await asyncio.open_connection("127.0.0.1", stand_in.port))

    @classmethod
    async def opened(cls, stand_in: EventHubsStandIn, **options: Any) -> Peer:
        """A connection with a session on channel 1."""
        peer = await cls.connect(stand_in)
        window = UInt(options.pop("window", 5_000))
        begin = Begin(None, UInt(0), window, UInt(5_000))
        peer.writer.write(AMQP_HEADER + build_frame(0, Open("peer", **options)) + build_frame(1, begin))
        assert await peer.reader.readexactly(8) == AMQP_HEADER
        await peer.expect(Open)
        assert (await peer.expect(Begin)).remote_channel == 1
        return peer

    def send(self, performative: Composite, channel: int = 1) -> None:
        self.writer.write(build_frame(channel, performative))

    def transfer(self, number: int, payload: bytes, *, more: bool = False, batch: bool = False) -> None:
        message_format = UInt(BATCH_FORMAT if batch else 0)
        tag = struct.pack(">I", number)
        body = encode_composite(
            Transfer(UInt(0), UInt(number), tag, message_format, settled=False, more=more)
        )
        self.writer.write(struct.pack(">IBBH", 8 + len(body) + len(payload), 2, 0, 1) + body + payload)

    async def produce(self, address: str = "anomalies/Partitions/0") -> Attach:
        target = terminus(0x29, address)
        self.send(
            Attach(
                "to",
                UInt(0),
                SENDER,
                source=terminus(0x28, "me"),
                target=target,
                initial_delivery_count=UInt(0),
            )
        )
        answer = await self.expect(Attach)
        if answer.target is not None:
            assert (await self.expect(Flow)).link_credit
        return answer

    async def consume(self, mode: int = 1, selector: str | None = None) -> Attach:
        source = terminus(0x28, "amqps://h:1/anomalies/ConsumerGroups/$Default/Partitions/0")
        if selector is not None:
            filters: dict[Value, Value] = {Symbol(SELECTOR): Described(Symbol(SELECTOR), selector)}
            assert isinstance(source.value, list)
            source.value.extend([*[None] * 6, filters])
        self.send(Attach("from", UInt(1), RECEIVER, UByte(mode), source=source, target=terminus(0x29, "me")))
        return await self.expect(Attach)

    def grant(self, credit: int, *, received: int = 0, window: int = 5_000, **options: Any) -> None:
        flow = Flow(
            UInt(received), UInt(window), UInt(0), UInt(1), UInt(1), UInt(received), UInt(credit), **options
        )
        self.send(flow)

    async def next(self) -> tuple[Composite, bytes]:
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                frame = self.frames.take_frame()
                if frame is not None and frame.body:
                    return read_performative(frame.body)
                if frame is None:
                    data = await self.reader.read(65_536)
                    if not data:
                        raise ConnectionError("hung up")
                    self.frames.feed(data)

    async def expect(self, kind: type[Kind]) -> Kind:
        performative, _ = await self.next()
        assert isinstance(performative, kind), performative
        return performative

    async def nothing_comes(self, seconds: float = 0.15) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self.next()
        except TimeoutError:
            return True
        return False

    async def closed_with(self) -> str:
        """The condition of the close frame, which ends the connection."""
        close = await self.expect(Close)
        assert close.error is not None
        self.writer.close()
        return close.error.condition


async def test_sasl_offers_anonymous_and_is_followed_by_amqp(stand_in: EventHubsStandIn) -> None:
    peer = await Peer.connect(stand_in)
    # Pipelined: everything at once, before any answer.
    init = build_frame(0, SaslInit(Symbol("ANONYMOUS")), kind=1)
    peer.writer.write(SASL_HEADER + init + AMQP_HEADER + build_frame(0, Open("peer")))
    answer = await asyncio.wait_for(peer.reader.readuntil(AMQP_HEADER), WAIT_SECONDS)
    assert answer.startswith(SASL_HEADER)
    assert b"ANONYMOUS" in answer
    assert (await peer.expect(Open)).container_id == "event-hubs-stand-in"
    peer.writer.close()


async def test_another_protocol_is_told_which_one_is_spoken_here(stand_in: EventHubsStandIn) -> None:
    peer = await Peer.connect(stand_in)
    peer.writer.write(b"GET / HTTP/1.1\r\n\r\n")
    assert await asyncio.wait_for(peer.reader.readexactly(8), WAIT_SECONDS) == AMQP_HEADER
    peer.writer.close()


async def test_a_delivery_in_many_frames_and_one_without_a_batch_are_stored(
    stand_in: EventHubsStandIn,
) -> None:
    peer = await Peer.opened(stand_in)
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


async def test_a_delivery_larger_than_the_link_is_rejected_and_not_kept_meanwhile() -> None:
    async with EventHubsStandIn(partitions=1, link_bytes_max=1_000) as stand_in:
        peer = await Peer.opened(stand_in)
        assert (await peer.produce()).max_message_size == 1_000
        for part in range(200):
            peer.transfer(0, b"x" * 1_000, more=part < 199)
        disposition = await peer.expect(Disposition)
        assert isinstance(disposition.state, Described)
        assert disposition.state.descriptor == Rejected.code
        assert "amqp:link:message-size-exceeded" in repr(disposition.state)
        assert stand_in.stats().events == 0
        peer.writer.close()


async def test_credit_is_renewed_for_a_producer_that_obeys_it() -> None:
    async with EventHubsStandIn(partitions=1, limits=Limits(link_credit=4, session_window=4)) as stand_in:
        peer = await Peer.opened(stand_in)
        await peer.produce()
        grants = 0
        for number in range(20):
            peer.transfer(number, event(b"x"))
            while isinstance((await peer.next())[0], Flow):
                grants += 1
        assert grants >= 5
        assert stand_in.stats().events == 20
        peer.writer.close()


async def test_an_aborted_delivery_is_forgotten(stand_in: EventHubsStandIn) -> None:
    peer = await Peer.opened(stand_in)
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
    stand_in: EventHubsStandIn, address: str
) -> None:
    peer = await Peer.opened(stand_in)
    answer = await peer.produce(address)
    assert (answer.source, answer.target) == (None, None)
    detach = await peer.expect(Detach)
    assert detach.error is not None
    assert detach.error.condition == "amqp:not-found"
    await peer.produce("amqps://localhost:5672/ANOMALIES/Partitions/1")
    peer.writer.close()


async def test_a_consumer_is_sent_no_more_than_its_credit_and_window(stand_in: EventHubsStandIn) -> None:
    stand_in.hub.partitions["0"].append(tuple(event(b"%d" % number) for number in range(10)))
    peer = await Peer.opened(stand_in)
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


async def test_a_consumer_starts_where_its_selector_says(stand_in: EventHubsStandIn) -> None:
    partition = stand_in.hub.partitions["0"]
    partition.append((event(b"0"), event(b"1"), event(b"2")))
    peer = await Peer.opened(stand_in)
    await peer.consume(selector="amqp.annotation.x-opt-sequence-number > '1'")
    peer.grant(10)
    assert (await peer.next())[1].endswith(event(b"2"))
    latest = await Peer.opened(stand_in)
    await latest.consume(selector="amqp.annotation.x-opt-offset > '@latest'")
    latest.grant(10)
    assert await latest.nothing_comes()
    partition.append((event(b"new"),))
    assert (await latest.next())[1].endswith(event(b"new"))
    peer.writer.close()
    latest.writer.close()


async def test_a_selector_that_is_not_understood_refuses_the_link(stand_in: EventHubsStandIn) -> None:
    peer = await Peer.opened(stand_in)
    assert (await peer.consume(selector="amqp.annotation.colour > 'red'")).source is None
    detach = await peer.expect(Detach)
    assert detach.error is not None
    assert detach.error.condition == "amqp:invalid-field"
    peer.writer.close()


async def test_a_consumer_that_drains_gets_what_is_there_and_is_told_that_its_credit_is_gone(
    stand_in: EventHubsStandIn,
) -> None:
    stand_in.hub.partitions["0"].append((event(b"only"),))
    peer = await Peer.opened(stand_in)
    await peer.consume()
    peer.grant(10, drain=True)
    await peer.expect(Transfer)
    flow = await peer.expect(Flow)
    assert (flow.delivery_count, flow.link_credit, flow.drain) == (10, 0, True)
    stand_in.hub.partitions["0"].append((event(b"later"),))
    assert await peer.nothing_comes()
    peer.writer.close()


async def test_an_unsettled_consumers_outcome_is_settled(stand_in: EventHubsStandIn) -> None:
    stand_in.hub.partitions["0"].append((event(b"only"),))
    peer = await Peer.opened(stand_in)
    await peer.consume(mode=0)
    peer.grant(1)
    assert (await peer.expect(Transfer)).settled is False
    peer.send(Disposition(RECEIVER, UInt(0), UInt(0), settled=False, state=to_value(Released())))
    assert (await peer.expect(Disposition)).settled is True
    peer.writer.close()


async def test_a_large_event_reaches_a_consumer_in_frames_it_can_take(stand_in: EventHubsStandIn) -> None:
    stand_in.hub.partitions["0"].append((event(b"x" * 5_000),))
    peer = await Peer.opened(stand_in, max_frame_size=UInt(512))
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
    stand_in: EventHubsStandIn,
) -> None:
    peer = await Peer.opened(stand_in)
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


MISTAKES: dict[str, tuple[bytes, str]] = {
    "a frame shorter than its head": (struct.pack(">IBBH", 4, 2, 0, 0), "amqp:connection:framing-error"),
    "a body before the end of the head": (struct.pack(">IBBH", 8, 1, 0, 0), "amqp:connection:framing-error"),
    "a frame of 4 GB": (b"\xff\xff\xff\xff\x02\x00\x00\x00", "amqp:connection:framing-error"),
    "no performative": (struct.pack(">IBBH", 9, 2, 0, 0) + b"\x40", "amqp:decode-error"),
    "half a value": (struct.pack(">IBBH", 12, 2, 0, 0) + b"\x00\x53\x10\xd0", "amqp:decode-error"),
    "a wrong type": (
        struct.pack(">IBBH", 16, 2, 0, 1) + b"\x00\x53\x17\xc0\x03\x01\xa1\x00",
        "amqp:decode-error",
    ),
    "a missing field": (
        struct.pack(">IBBH", 14, 2, 0, 1) + b"\x00\x53\x12\xc0\x01\x00",
        "amqp:invalid-field",
    ),
    "a channel without session": (build_frame(9, Detach(UInt(0))), "amqp:not-allowed"),
    "a channel too large": (
        build_frame(900, Begin(None, UInt(0), UInt(1), UInt(1))),
        "amqp:resource-limit-exceeded",
    ),
    "a second session on a channel": (
        build_frame(1, Begin(UShort(0), UInt(0), UInt(1), UInt(1))),
        "amqp:resource-limit-exceeded",
    ),
    "a second Open": (build_frame(0, Open("again")), "amqp:illegal-state"),
    "a transfer on no link": (
        transfer_frame(1, 5, 0, b"", settled=True, more=False),
        "amqp:session:unattached-handle",
    ),
    "a SASL frame after SASL": (build_frame(0, SaslInit(Symbol("PLAIN")), kind=1), "amqp:not-allowed"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_a_mistake_closes_the_connection_with_its_condition_and_no_other_connection(
    stand_in: EventHubsStandIn, mistake: str
) -> None:
    bystander = await Peer.opened(stand_in)
    peer = await Peer.opened(stand_in)
    mistaken, condition = MISTAKES[mistake]
    peer.writer.write(mistaken)
    assert await peer.closed_with() == condition
    assert stand_in.stats().protocol_errors == 1
    await bystander.produce()
    bystander.writer.close()


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x00\x53",
        b"\x00\x53\x75\xb0\xff\xff\xff\xff",
        b"\x00\x53\x75\xa0",
        b"\x00\x53\x75\x40",
        b"\xff",
    ],
)
async def test_a_malformed_batch_closes_the_connection_and_stores_nothing(
    stand_in: EventHubsStandIn, payload: bytes
) -> None:
    peer = await Peer.opened(stand_in)
    await peer.produce()
    peer.transfer(0, event(event(b"good")) + payload, batch=bool(payload))
    if not payload:
        peer.transfer(1, b"")
        await peer.expect(Disposition)
    assert await peer.closed_with() == "amqp:decode-error"
    assert stand_in.stats().events == (0 if payload else 1)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=5))
def test_whatever_bytes_come_the_server_goes_on(pieces: list[bytes]) -> None:
    async def run() -> None:
        async with EventHubsStandIn(partitions=1) as stand_in:
            reader, writer = await asyncio.open_connection("127.0.0.1", stand_in.port)
            writer.write(AMQP_HEADER + build_frame(0, Open("fuzz")))
            for piece in pieces:
                writer.write(struct.pack(">IBBH", 8 + len(piece), 2, 0, 0) + piece)
            writer.write_eof()
            await asyncio.wait_for(reader.read(), 5)
            writer.close()
            peer = await Peer.opened(stand_in)
            peer.writer.close()

    asyncio.run(run())


async def test_the_server_keeps_an_idle_peer_alive_and_drops_one_that_is_silent_for_too_long() -> None:
    async with EventHubsStandIn(limits=Limits(idle_timeout_seconds=0.4)) as stand_in:
        peer = await Peer.opened(stand_in, idle_timeout=UInt(100))
        assert await asyncio.wait_for(peer.reader.readexactly(8), 0.2) == EMPTY_FRAME
        for _ in range(12):
            peer.writer.write(EMPTY_FRAME)
            await asyncio.sleep(0.05)
        assert stand_in.stats().connections == 1
        assert await peer.closed_with() == "amqp:connection:forced"


async def test_one_connection_too_many_is_reset_and_the_others_stay() -> None:
    async with EventHubsStandIn(limits=Limits(connections_max=2)) as stand_in:
        first, second = await Peer.opened(stand_in), await Peer.opened(stand_in)
        with pytest.raises(ConnectionError):
            await Peer.opened(stand_in)
        await first.produce()
        await second.produce()
        first.writer.close()
        second.writer.close()


@pytest.fixture(autouse=True)
async def everything_is_closed(stand_in: EventHubsStandIn) -> AsyncIterator[None]:
    yield
    async with asyncio.timeout(WAIT_SECONDS):
        while stand_in.stats().connections:
            await asyncio.sleep(0.01)
