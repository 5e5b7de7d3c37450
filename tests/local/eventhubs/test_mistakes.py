"""What a peer may do wrong: its own connection is closed with the fitting condition, and no other."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from farshore.local.eventhubs import EventHubsStandIn
from farshore.local.eventhubs.encode import encode_value
from farshore.local.eventhubs.frames import (
    AMQP_HEADER,
    build_frame,
    transfer_frame,
)
from farshore.local.eventhubs.performatives import (
    Begin,
    Detach,
    Disposition,
    Open,
    SaslInit,
)
from farshore.local.eventhubs.values import Described, Symbol, UInt, ULong, UShort

WAIT_SECONDS = 20.0


def event(body: bytes) -> bytes:
    return encode_value(Described(ULong(0x75), body))


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
    peers: Any, stand_in: EventHubsStandIn, mistake: str
) -> None:
    bystander = await peers.opened(stand_in)
    peer = await peers.opened(stand_in)
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
    peers: Any, stand_in: EventHubsStandIn, payload: bytes
) -> None:
    peer = await peers.opened(stand_in)
    await peer.produce()
    peer.transfer(0, event(event(b"good")) + payload, batch=bool(payload))
    if not payload:
        peer.transfer(1, b"")
        await peer.expect(Disposition)
    assert await peer.closed_with() == "amqp:decode-error"
    assert stand_in.stats().events == (0 if payload else 1)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=5))
def test_whatever_bytes_come_the_server_goes_on(peers: Any, pieces: list[bytes]) -> None:
    async def run() -> None:
        async with EventHubsStandIn(partitions=1) as stand_in:
            reader, writer = await asyncio.open_connection("127.0.0.1", stand_in.port)
            writer.write(AMQP_HEADER + build_frame(0, Open("fuzz")))
            for piece in pieces:
                writer.write(struct.pack(">IBBH", 8 + len(piece), 2, 0, 0) + piece)
            writer.write_eof()
            await asyncio.wait_for(reader.read(), WAIT_SECONDS)
            writer.close()
            peer = await peers.opened(stand_in)
            peer.writer.close()

    asyncio.run(run())


@pytest.fixture(autouse=True)
async def everything_is_closed(stand_in: EventHubsStandIn) -> AsyncIterator[None]:
    yield
    async with asyncio.timeout(WAIT_SECONDS):
        while stand_in.stats().connections:
            await asyncio.sleep(0.01)
