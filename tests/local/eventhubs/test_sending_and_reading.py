"""The unmodified SDK sends and reads back what it sent."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from azure.eventhub import EventData, EventDataBatch, EventHubConsumerClient, EventHubProducerClient
from azure.eventhub.exceptions import ConnectError, EventDataSendError, EventHubError

from farshore.local.eventhubs import EventHubsStandIn


async def test_a_batch_to_a_partition_is_read_back_in_order_with_its_properties(
    sdk: Any, within: Callable[..., Any]
) -> None:
    batch = EventDataBatch(max_size_in_bytes=262_144, partition_id="1")
    for number in range(20):
        event = EventData(b"body %d" % number)
        event.properties = {"number": number, "name": "größe", "exact": 0.1, "is_new": True}
        event.message_id = f"id-{number}"
        event.correlation_id = "batch"
        event.content_type = "application/json"
        batch.add(event)
    larger_than_a_frame = bytes(range(256)) * 800
    batch.add(EventData(larger_than_a_frame))
    before = datetime.now(UTC)
    reading = asyncio.ensure_future(sdk.read(21))
    await within(40, sdk.make_producer().send_batch(batch, timeout=20))

    *events, last = await reading

    assert b"".join(last.body) == larger_than_a_frame
    assert [event.body_as_str() for event in events] == [f"body {number}" for number in range(20)]
    assert [event.sequence_number for event in events] == list(range(20))
    assert len({event.offset for event in events}) == 20
    assert {event.partition_id for event in events} == {"1"}
    assert [event.message_id for event in events] == [f"id-{number}" for number in range(20)]
    assert {event.content_type for event in events} == {"application/json"}
    assert {event.correlation_id for event in events} == {"batch"}
    assert events[3].properties == {
        b"number": 3,
        b"name": "größe".encode(),
        b"exact": 0.1,
        b"is_new": True,
    }
    assert abs((events[0].enqueued_time - before).total_seconds()) < 60
    assert {event.partition_key for event in events} == {None}


async def test_twenty_thousand_events_come_back_exactly_and_in_order(
    sdk: Any, within: Callable[..., Any], batch_of: Callable[..., EventDataBatch]
) -> None:
    reading = asyncio.ensure_future(sdk.read(20_000, partition_id="0", prefetch=3_000, max_batch_size=2_000))
    client = sdk.make_producer()
    bodies = [b"%d:" % number + b"x" * (number % 300) for number in range(20_000)]
    for start in range(0, len(bodies), 500):
        await within(
            40, client.send_batch(batch_of(*bodies[start : start + 500], partition_id="0"), timeout=20)
        )

    events = await reading

    assert [b"".join(event.body) for event in events] == bodies
    assert [event.sequence_number for event in events] == list(range(len(bodies)))
    assert sdk.stand_in.stats().sends_stored == 40


async def test_batches_without_a_partition_take_turns_and_keys_keep_theirs(sdk: Any) -> None:
    client = sdk.make_producer()
    for number in range(4):
        await sdk.send(client, b"%d" % number, partition_id=None)
    assert sdk.stand_in.stats().events_by_partition == {"0": 2, "1": 2}
    for _ in range(3):
        await sdk.send(client, b"keyed", partition_key="press-17")
    counts = sdk.stand_in.stats().events_by_partition
    assert sorted(counts.values()) == [2, 5]
    keyed = [
        event.partition_key
        for partition in sdk.stand_in.hub.partitions.values()
        for event in partition.read(0, 10)
    ]
    assert sorted(filter(None, keyed)) == ["press-17"] * 3


async def test_the_hub_and_its_partitions_describe_themselves(sdk: Any, within: Callable[..., Any]) -> None:
    client = sdk.make_producer()
    hub = await within(40, client.get_eventhub_properties())
    assert hub["eventhub_name"] == "anomalies"
    assert hub["partition_ids"] == ["0", "1"]
    assert abs((datetime.now(UTC) - hub["created_at"]).total_seconds()) < 120

    await sdk.send(client, b"a", b"b", b"c")
    full = await within(40, client.get_partition_properties("0"))
    empty = await within(40, client.get_partition_properties("1"))

    assert (full["beginning_sequence_number"], full["last_enqueued_sequence_number"]) == (0, 2)
    assert (full["is_empty"], empty["is_empty"]) == (False, True)
    assert empty["last_enqueued_sequence_number"] == -1
    assert int(full["last_enqueued_offset"]) > 0


async def test_a_partition_that_does_not_exist_is_refused(sdk: Any, within: Callable[..., Any]) -> None:
    client = sdk.make_producer()
    with pytest.raises(EventHubError):
        await sdk.send(client, b"a", partition_id="7")
    with pytest.raises(ConnectError, match="404"):
        await within(40, client.get_partition_properties("7"))


async def test_the_link_says_how_large_a_message_may_be_and_rejects_larger_ones(
    sdk_of: Callable[[EventHubsStandIn], Any],
    within: Callable[..., Any],
    batch_of: Callable[..., EventDataBatch],
) -> None:
    async with EventHubsStandIn(partitions=1, link_bytes_max=100_000) as stand_in:
        sdk = sdk_of(stand_in)
        client = sdk.make_producer()
        batch = await within(40, client.create_batch(partition_id="0"))
        assert batch.max_size_in_bytes == 100_000
        with pytest.raises(EventDataSendError, match="the link takes 100000"):
            await within(40, client.send_batch(batch_of(b"x" * 150_000, partition_id="0"), timeout=20))
        assert stand_in.stats().events == 0
        await sdk.send(client, b"small")
        assert stand_in.stats().events == 1
        assert stand_in.stats().sends_refused == 1


async def test_the_sync_sdk_sends_and_reads_too(
    stand_in: EventHubsStandIn, stored: Callable[..., Any]
) -> None:
    received: list[str] = []

    def work() -> None:
        text = stand_in.connection_string
        with EventHubProducerClient.from_connection_string(text, retry_total=0) as producer:
            producer.send_batch([EventData(b"from a thread")])
        consumer = EventHubConsumerClient.from_connection_string(text, "$Default", retry_total=0)

        def take(context: Any, event: Any) -> None:
            received.append(event.body_as_str())

        receiving = threading.Thread(
            target=consumer.receive, args=(take,), kwargs={"starting_position": "-1"}, daemon=True
        )
        receiving.start()
        deadline = time.monotonic() + 40
        while not received and time.monotonic() < deadline:
            time.sleep(0.02)
        consumer.close()
        receiving.join(timeout=20)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    deadline = time.monotonic() + 60
    while thread.is_alive() and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    assert received == ["from a thread"]
    assert stored(stand_in) == [b"from a thread"]
