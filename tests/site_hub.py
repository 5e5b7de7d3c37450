"""What the Event Hubs stand-in of a test's site holds: from its memory, or read back with the SDK."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from azure.eventhub.aio import EventHubConsumerClient

from farshore.local.eventhubs import EventHubsStandIn
from farshore.local.eventhubs.decode import decode_value
from farshore.local.eventhubs.values import Described

DATA_SECTION = 0x75  # of an AMQP message


def stored_in(hub: EventHubsStandIn) -> list[tuple[int, bytes]]:
    """Partition and body of everything in the hub's memory, in order: quicker than the SDK."""
    bodies: list[tuple[int, bytes]] = []
    for name, partition in hub.hub.partitions.items():
        for event in partition.read(0, 1_000_000):
            position = 0
            while position < len(event.data):
                section, position = decode_value(event.data, position)
                if isinstance(section, Described) and section.descriptor == DATA_SECTION:
                    assert isinstance(section.value, bytes)
                    bodies.append((int(name), section.value))
    return bodies


async def read_hub(hub: EventHubsStandIn) -> list[Any]:
    """Everything stored in `hub`, by partition in order."""
    expected = hub.stats().events
    events: list[Any] = []
    enough = asyncio.Event()

    async def take(context: Any, batch: list[Any]) -> None:
        for event in batch:
            event.partition_id = context.partition_id
            events.append(event)
        if len(events) >= expected:
            enough.set()

    client = EventHubConsumerClient.from_connection_string(hub.connection_string, "$Default")
    options = {"starting_position": "-1", "max_wait_time": 1, "max_batch_size": 1_000, "prefetch": 2_000}
    reading = asyncio.ensure_future(client.receive_batch(take, **options))
    try:
        if expected:
            async with asyncio.timeout(90):
                await enough.wait()
    finally:
        reading.cancel()
        with suppress(asyncio.CancelledError):
            await reading
        await client.close()
    return sorted(events, key=lambda event: (event.partition_id, event.sequence_number))
