"""Each fault: what the SDK experiences, what is stored meanwhile, and that all is well once it is cleared."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from azure.eventhub import EventData, EventDataBatch
from azure.eventhub.aio import EventHubProducerClient
from azure.eventhub.exceptions import (
    AuthenticationError,
    ConnectError,
    ConnectionLostError,
    EventDataSendError,
    EventHubError,
    OperationTimeoutError,
)

from farshore.local.eventhubs import EventHubsStandIn, FaultKind

TUNED: dict[str, Any] = {
    "retry_total": 0,
    "retry_mode": "fixed",
    "retry_backoff_factor": 0.05,
    "retry_backoff_max": 1,
    "keep_alive": 30,
}
HANGS = TimeoutError
HANG_SECONDS = 1.2
# What works or fails at once takes seconds where ten clients start on two slow cores.
SOUND_SECONDS_MAX = 40.0
ACK_SECONDS_MAX = 20.0
TRIALS_AT_ONCE = 5


async def test_refuse_closes_the_door_and_clearing_opens_it_on_the_same_port(sdk: Any) -> None:
    stand_in = sdk.stand_in
    client = sdk.make_producer()
    await sdk.send(client, b"before")
    port = stand_in.port

    await stand_in.fault("refuse")
    await asyncio.sleep(0)
    assert stand_in.stats().connections == 0
    with pytest.raises(EventHubError):
        await sdk.send(client, b"during")
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    assert stand_in.stats().events == 1

    await stand_in.clear()
    assert stand_in.port == port
    await sdk.send(client, b"after")
    assert stand_in.stats().events == 2


async def test_a_refusing_port_is_not_given_to_anyone_else(stand_in: EventHubsStandIn) -> None:
    await stand_in.fault("refuse")
    server = None
    with pytest.raises(OSError, match="in use"):
        server = await asyncio.start_server(
            lambda _, writer: writer.close(), "127.0.0.1", stand_in.port, reuse_address=False
        )
    assert server is None


async def test_a_black_hole_swallows_old_and_new_connections_and_resets_them_when_cleared(
    sdk: Any, stored: Callable[..., Any]
) -> None:
    stand_in = sdk.stand_in
    old = sdk.make_producer()
    await sdk.send(old, b"before")

    await stand_in.fault(FaultKind.BLACK_HOLE)
    with pytest.raises(HANGS):
        await sdk.send(old, b"swallowed", seconds=0.5)
    reader, writer = await asyncio.open_connection("127.0.0.1", stand_in.port)
    writer.write(b"AMQP\x00\x01\x00\x00")
    with pytest.raises(HANGS):
        await asyncio.wait_for(reader.read(1), 0.2)
    assert stored(stand_in) == [b"before"]

    await stand_in.clear()
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.read(1), SOUND_SECONDS_MAX)
    writer.close()
    await sdk.send(sdk.make_producer(), b"after")
    assert stored(stand_in) == [b"before", b"after"]


async def test_a_lost_acknowledgement_makes_the_sdk_send_twice(sdk: Any, stored: Callable[..., Any]) -> None:
    client = sdk.make_producer()
    await sdk.send(client, b"warm")
    await sdk.stand_in.fault("drop-after-store", count=1)
    await sdk.send(client, b"twice")
    assert stored(sdk.stand_in) == [b"warm", b"twice", b"twice"]
    assert sdk.stand_in.faults.fault.kind is FaultKind.NONE


async def test_a_busy_server_rejects_and_stores_nothing_until_the_count_is_used_up(
    sdk: Any, stored: Callable[..., Any]
) -> None:
    client = sdk.make_producer()
    await sdk.send(client, b"warm")
    await sdk.stand_in.fault("busy", count=2)
    # On a warm client each call is two tries.
    with pytest.raises(EventDataSendError) as caught:
        await sdk.send(client, b"unwelcome")
    assert caught.value.error == "server-busy"
    await sdk.send(client, b"after")
    assert stored(sdk.stand_in) == [b"warm", b"after"]
    stats = sdk.stand_in.stats()
    assert (stats.sends_refused, stats.fault_strikes) == (2, 2)


@dataclass(frozen=True)
class Trial:
    """What became of one send under a fault, and of one after it."""

    experience: type[Exception] | None
    is_stored: bool
    strikes: int
    error_after: Exception | None


@pytest.fixture(scope="module")
def trials() -> dict[str, Trial]:
    """Every fault on a stand-in of its own, some at once: a trial is mostly the SDK's waiting."""
    at_once = asyncio.Semaphore(TRIALS_AT_ONCE)

    async def try_in_turn(kind: str) -> Trial:
        async with at_once:
            return await try_fault(kind)

    async def run() -> dict[str, Trial]:
        found = await asyncio.gather(*map(try_in_turn, EXPERIENCES))
        return dict(zip(EXPERIENCES, found, strict=True))

    return asyncio.run(run())


async def try_fault(kind: str) -> Trial:
    async with EventHubsStandIn(partitions=1) as stand_in:

        async def send(
            client: Any, *, hangs: bool = False, ack_seconds: float = ACK_SECONDS_MAX
        ) -> Exception | None:
            batch = EventDataBatch(max_size_in_bytes=262_144, partition_id="0")
            batch.add(EventData(b"body"))
            sending = asyncio.ensure_future(client.send_batch(batch, timeout=ack_seconds))
            try:
                if hangs:
                    # It hangs from the moment on at which the fault strikes, however long the way there.
                    async with asyncio.timeout(SOUND_SECONDS_MAX):
                        while not stand_in.stats().fault_strikes:
                            await asyncio.sleep(0.02)
                done, _ = await asyncio.wait({sending}, timeout=HANG_SECONDS if hangs else SOUND_SECONDS_MAX)
                return sending.exception() if done else TimeoutError()
            finally:
                sending.cancel()

        text = stand_in.connection_string
        clients = [EventHubProducerClient.from_connection_string(text, **TUNED) for _ in range(2)]
        if kind not in COLD:
            assert await send(clients[0]) is None
        before = stand_in.stats().events
        await stand_in.fault(kind)
        expected, _ = EXPERIENCES[kind]
        ack_seconds = HANG_SECONDS if expected is OperationTimeoutError else ACK_SECONDS_MAX
        error = await send(clients[0], hangs=expected is HANGS, ack_seconds=ack_seconds)
        stats = stand_in.stats()
        await stand_in.clear()
        after = await send(clients[1])
        for client in clients:
            await asyncio.wait({asyncio.ensure_future(client.close())}, timeout=0.5)
        return Trial(type(error) if error else None, stats.events > before, stats.fault_strikes, after)


COLD = ("token-refused", "token-ignored")
EXPERIENCES: dict[str, tuple[type[Exception], bool]] = {
    "reset-before-store": (ConnectError, False),
    "drop-after-store": (ConnectError, True),
    "no-ack": (OperationTimeoutError, True),
    "reject": (EventDataSendError, False),
    "release": (HANGS, False),
    "detach": (ConnectionLostError, False),
    "end-session": (HANGS, False),
    "close-connection": (ConnectError, False),
    "token-refused": (AuthenticationError, False),
    "token-ignored": (HANGS, False),
}
"""What the SDK's caller sees of a fault that stays on, and whether the event is stored all the same."""


@pytest.mark.parametrize("kind", EXPERIENCES)
def test_what_a_fault_does_to_a_send_and_that_it_is_gone_when_cleared(
    trials: dict[str, Trial], kind: str
) -> None:
    experience, is_stored = EXPERIENCES[kind]
    trial = trials[kind]
    assert trial.experience is experience
    assert trial.is_stored is is_stored
    assert trial.strikes >= 1
    assert trial.error_after is None


async def test_a_delay_stores_at_once_and_acknowledges_later(sdk: Any) -> None:
    client = sdk.make_producer()
    await sdk.send(client, b"warm")
    await sdk.stand_in.fault("delay", delay_seconds=1.5)
    started = time.monotonic()
    sending = asyncio.ensure_future(sdk.send(client, b"late"))
    async with asyncio.timeout(SOUND_SECONDS_MAX):
        while sdk.stand_in.stats().events < 2:
            await asyncio.sleep(0.01)
    assert not sending.done()
    await sending
    assert time.monotonic() - started >= 1.5


async def test_a_bandwidth_limit_slows_sending_and_lifting_it_helps_at_once(sdk: Any) -> None:
    client = sdk.make_producer()
    await sdk.send(client, b"warm")
    await sdk.stand_in.fault("bandwidth-limit", bytes_per_second=100_000)
    started = time.monotonic()
    for _ in range(2):
        await sdk.send(client, b"x" * 40_000)
    assert time.monotonic() - started >= 0.4

    await sdk.stand_in.fault("bandwidth-limit", bytes_per_second=1)
    sending = asyncio.ensure_future(sdk.send(client, b"x" * 40_000))
    await asyncio.sleep(0.2)
    await sdk.stand_in.clear()
    started = time.monotonic()
    await sending
    assert time.monotonic() - started < SOUND_SECONDS_MAX  # by itself it would take half a day


async def test_a_fault_that_makes_no_sense_is_refused(stand_in: EventHubsStandIn) -> None:
    for kind, count in [("gremlins", None), ("refuse", 3), ("busy", 0), ("black-hole", 1)]:
        with pytest.raises(ValueError, match=r"gremlins|times"):
            await stand_in.fault(kind, count)
    with pytest.raises(ValueError, match="delay_seconds"):
        await stand_in.fault("delay", delay_seconds=0)
    assert stand_in.faults.fault.kind is FaultKind.NONE
