"""The real SDK against the stand-in: the options that hold up, and an outer deadline on every call.

No option of the SDK bounds a call, so each one runs in a task of its own that is cancelled when its time is
up.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from azure.eventhub import EventData, EventDataBatch
from azure.eventhub.aio import EventHubConsumerClient, EventHubProducerClient

from farshore.local.eventhubs import EventHubsStandIn
from farshore.local.eventhubs.composites import Composite, encode_composite
from farshore.local.eventhubs.decode import decode_value
from farshore.local.eventhubs.frames import AMQP_HEADER, FrameReader, build_frame, read_performative
from farshore.local.eventhubs.performatives import (
    RECEIVER,
    SENDER,
    Attach,
    Begin,
    Close,
    Flow,
    Open,
    Transfer,
)
from farshore.local.eventhubs.positions import SELECTOR
from farshore.local.eventhubs.publications import BATCH_FORMAT
from farshore.local.eventhubs.values import Described, Symbol, UByte, UInt, ULong, Value

TUNED: dict[str, Any] = {
    "retry_total": 0,
    "retry_mode": "fixed",
    "retry_backoff_factor": 0.05,
    "retry_backoff_max": 1,
    "keep_alive": 30,
}
CALL_SECONDS_MAX = 40.0
# How long the SDK waits for an acknowledgement: far above what a loaded machine takes.
ACK_SECONDS_MAX = 20
CANCEL_SECONDS = 0.3
CANCELS_MAX = 5
DATA_SECTION = 0x75

Result = TypeVar("Result")


async def within(seconds: float, call: Coroutine[Any, Any, Result]) -> Result:
    """The call's result; `TimeoutError` after `seconds`, with the call cancelled as often as it takes."""
    task = asyncio.ensure_future(call)
    done, _ = await asyncio.wait({task}, timeout=seconds)
    if done:
        return task.result()
    for _ in range(CANCELS_MAX):
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=CANCEL_SECONDS)
        if done:
            break
    raise TimeoutError


def batch_of(*bodies: bytes, **options: Any) -> EventDataBatch:
    """A batch made without a connection."""
    batch = EventDataBatch(max_size_in_bytes=262_144, **options)
    for body in bodies:
        batch.add(EventData(body))
    return batch


def stored(stand_in: EventHubsStandIn) -> list[bytes]:
    """The bodies of all events, partition by partition, as they lie in memory."""
    bodies: list[bytes] = []
    for partition in stand_in.hub.partitions.values():
        for event in partition.read(0, 1_000_000):
            position = 0
            while position < len(event.data):
                section, position = decode_value(event.data, position)
                assert isinstance(section, Described)
                if section.descriptor == DATA_SECTION and isinstance(section.value, bytes):
                    bodies.append(section.value)
    return bodies


@dataclass(frozen=True)
class Sdk:
    """Clients of one stand-in."""

    stand_in: EventHubsStandIn
    make_producer: Callable[[], Any]
    make_consumer: Callable[[], Any]

    async def send(
        self, client: Any, *bodies: bytes, seconds: float = CALL_SECONDS_MAX, **options: Any
    ) -> None:
        """Send one batch to partition 0, or where the options say."""
        if not options:
            options = {"partition_id": "0"}
        await within(seconds, client.send_batch(batch_of(*bodies, **options), timeout=ACK_SECONDS_MAX))

    async def read(self, count: int, *, seconds: float = CALL_SECONDS_MAX, **options: Any) -> list[Any]:
        """The first `count` events that a new consumer gets, the partition of each in `partition_id`."""
        events: list[Any] = []
        enough = asyncio.Event()

        async def take(context: Any, batch: list[Any]) -> None:
            for event in batch:
                event.partition_id = context.partition_id
                events.append(event)
            if len(events) >= count:
                enough.set()

        client = self.make_consumer()
        options = {"starting_position": "-1", "max_wait_time": 1, **options}
        receiving = asyncio.ensure_future(client.receive_batch(take, **options))
        try:
            async with asyncio.timeout(seconds):
                await enough.wait()
        finally:
            receiving.cancel()
            with suppress(asyncio.CancelledError):
                await receiving
        return events


@pytest.fixture
async def stand_in() -> AsyncIterator[EventHubsStandIn]:
    async with EventHubsStandIn(hub="anomalies", partitions=2) as running:
        yield running


@pytest.fixture
async def sdk_of() -> AsyncIterator[Callable[[EventHubsStandIn], Sdk]]:
    """Makes SDK clients for a stand-in and closes them in the end."""
    clients: list[Any] = []

    def kept(client: Any) -> Any:
        clients.append(client)
        return client

    def make(stand_in: EventHubsStandIn) -> Sdk:
        text = stand_in.connection_string
        return Sdk(
            stand_in,
            lambda: kept(EventHubProducerClient.from_connection_string(text, **TUNED)),
            lambda: kept(EventHubConsumerClient.from_connection_string(text, "$Default", **TUNED)),
        )

    yield make
    closing: list[Awaitable[None]] = [within(CANCEL_SECONDS, client.close()) for client in clients]
    await asyncio.gather(*closing, return_exceptions=True)


@pytest.fixture
def sdk(stand_in: EventHubsStandIn, sdk_of: Callable[[EventHubsStandIn], Sdk]) -> Sdk:
    return sdk_of(stand_in)


@pytest.fixture(name="within")
def within_fixture() -> Callable[..., Any]:
    return within


@pytest.fixture(name="stored")
def stored_fixture() -> Callable[[EventHubsStandIn], list[bytes]]:
    return stored


@pytest.fixture(name="batch_of")
def batch_of_fixture() -> Callable[..., EventDataBatch]:
    return batch_of


WAIT_SECONDS = 20.0
Kind = TypeVar("Kind", bound=Composite)


def terminus(code: int, address: str) -> Described:
    return Described(ULong(code), [address])


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


@pytest.fixture
def peers() -> type[Peer]:
    return Peer
