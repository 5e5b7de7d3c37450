"""The sender: every anomaly to an outcome, in order, whatever its size."""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import Any

import orjson
import pytest

from farshore.agents.departures import body_digest
from farshore.agents.sender import Sender
from farshore.agents.uplink import EventHubUplink, UplinkLimits, UplinkTooLargeError
from farshore.local.eventhubs import EventHubsStandIn, FaultKind
from farshore.schemas.records import Outcome
from farshore.streams.delivery.breaker import BUSY_SECONDS_MIN, BackoffLimits
from farshore.streams.transport.batch import PartitionBatch

from ..site import anomaly_record, stored_in


def sender_to(hub: EventHubsStandIn) -> tuple[Sender, EventHubUplink]:
    uplink = EventHubUplink(hub.connection_string, None, UplinkLimits())
    return Sender(uplink, BackoffLimits(0.05, 0.2)), uplink


def batch_of(records: list[tuple[bytes | None, bytes | None]]) -> PartitionBatch:
    keys, values = [key for key, _ in records], [value for _, value in records]
    offsets = list(range(len(records)))
    return PartitionBatch("anomalies", 1, len(records), offsets, offsets, keys, values, 0)


def anomaly(number: int, **changes: Any) -> tuple[bytes, bytes]:
    record = anomaly_record(number) | changes
    return record["id"].encode(), orjson.dumps(record)


def at_hub(hub: EventHubsStandIn) -> list[int]:
    return [int(orjson.loads(body)["id"], 16) for _, body in stored_in(hub)]


async def test_tombstones_and_damaged_records_never_reach_the_link(hub: EventHubsStandIn) -> None:
    sender, uplink = sender_to(hub)
    batch = batch_of([anomaly(1), (b"settled", None), (b"damaged", b"{}"), (None, b"{}"), anomaly(2)])
    outcomes = await sender.deliver(batch)
    await uplink.discard()
    assert at_hub(hub) == [1, 2]
    assert outcomes.counts == {Outcome.ACKNOWLEDGED: 2, Outcome.SET_ASIDE: 1}
    by_key = dict(zip(outcomes.columns.keys, map(orjson.loads, outcomes.columns.values), strict=True))
    assert by_key[b"damaged"]["outcome"] == "set-aside"
    assert "lacks id" in by_key[b"damaged"]["detail"]
    first, second = (by_key[anomaly(number)[0]] for number in (1, 2))
    assert first["batch"] == second["batch"]
    assert first["detail"] is None
    (audit,) = map(orjson.loads, outcomes.audit.values)
    assert (audit["batch"], audit["count"], audit["partition"]) == (first["batch"], 2, 1)
    bodies = [body for _, body in stored_in(hub)]
    assert audit["bytes"] == sum(map(len, bodies))
    assert [first["digest"], second["digest"]] == [body_digest(body) for body in bodies]


async def test_an_anomaly_that_no_batch_holds_is_set_aside_and_the_rest_goes_on_in_order() -> None:
    async with EventHubsStandIn(hub="anomalies", partitions=2, link_bytes_max=1_024) as hub:
        sender, uplink = sender_to(hub)
        records = [anomaly(number) for number in range(20)]
        records[7] = anomaly(7, model="m" * 2_000 + "@1")
        outcomes = await sender.deliver(batch_of(records))
        await uplink.discard()
        assert at_hub(hub) == [number for number in range(20) if number != 7]
        assert outcomes.counts == {Outcome.ACKNOWLEDGED: 19, Outcome.SET_ASIDE: 1}
        assert hub.stats().sends_stored > 3


async def test_a_service_that_takes_less_than_its_link_promised_is_sent_less(
    hub: EventHubsStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender, uplink = sender_to(hub)
    await uplink.connect()
    real = uplink.new_batch

    def too_large(lane: int) -> Any:
        batch = real(lane)
        batch.max_size_in_bytes *= 4
        return batch

    monkeypatch.setattr(uplink, "new_batch", too_large)
    records = [anomaly(number, model="m" * 200_000 + "@1") for number in range(8)]
    outcomes = await sender.deliver(batch_of(records))
    await uplink.discard()
    assert at_hub(hub) == list(range(8))
    assert outcomes.counts == {Outcome.ACKNOWLEDGED: 8}


async def test_a_link_that_is_refused_as_too_large_before_anything_was_sent_sets_nothing_aside(
    hub: EventHubsStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sizes of attaching a link are none of an anomaly's: the sender waits and tries again."""
    sender, uplink = sender_to(hub)
    real = uplink.connect
    refusals = iter(range(2))

    async def refused_at_first() -> None:
        if next(refusals, None) is not None:
            raise UplinkTooLargeError("message-size-exceeded")
        await real()

    monkeypatch.setattr(uplink, "connect", refused_at_first)
    outcomes = await sender.deliver(batch_of([anomaly(1), anomaly(2)]))
    await uplink.discard()
    assert next(refusals, None) is None
    assert at_hub(hub) == [1, 2]
    assert outcomes.counts == {Outcome.ACKNOWLEDGED: 2}


async def test_an_outage_is_two_lines_however_many_attempts_it_took(
    hub: EventHubsStandIn, caplog: pytest.LogCaptureFixture
) -> None:
    sender, uplink = sender_to(hub)
    caplog.set_level(logging.INFO, "farshore.agents.sender")
    await sender.deliver(batch_of([anomaly(1)]))
    await hub.fault(FaultKind.REJECT, 2)
    await sender.deliver(batch_of([anomaly(2)]))
    await uplink.discard()
    told = [record.getMessage().split(":")[0] for record in caplog.records]
    assert told == ["uplink online", "uplink offline", "uplink online"]
    assert at_hub(hub) == [1, 2]


async def test_a_lost_acknowledgement_repeats_one_batch_and_no_more() -> None:
    # So small a link that the anomalies make several batches.
    async with EventHubsStandIn(hub="anomalies", partitions=2, link_bytes_max=1_024) as hub:
        sender, uplink = sender_to(hub)
        await hub.fault(FaultKind.DROP_AFTER_STORE, 2)
        outcomes = await sender.deliver(batch_of([anomaly(number) for number in range(20)]))
        await uplink.discard()
        sent_as = Counter(orjson.loads(value)["batch"] for value in outcomes.columns.values)
        repeats = at_hub(hub).copy()
        for number in range(20):
            repeats.remove(number)
        assert 0 < len(repeats) <= 2 * max(sent_as.values())
        assert len(sent_as) > 3
        # What came first keeps the order, repeats or not.
        assert list(dict.fromkeys(at_hub(hub))) == list(range(20))


async def test_a_busy_service_is_left_alone_for_as_long_as_it_asks(
    hub: EventHubsStandIn, caplog: pytest.LogCaptureFixture
) -> None:
    sender, uplink = sender_to(hub)
    caplog.set_level(logging.INFO, "farshore.agents.sender")
    await sender.deliver(batch_of([anomaly(1)]))
    await hub.fault(FaultKind.BUSY, 2)
    began = time.monotonic()
    await sender.deliver(batch_of([anomaly(2)]))
    assert time.monotonic() - began >= 2 * BUSY_SECONDS_MIN
    await uplink.discard()
    assert hub.stats().sends_refused == 2
    assert at_hub(hub) == [1, 2]
    told = [record.getMessage().split(":")[0] for record in caplog.records]
    assert told == ["uplink online", "uplink throttled", "uplink online"]


async def test_a_batch_of_nothing_to_deliver_needs_no_link(hub: EventHubsStandIn) -> None:
    sender, _ = sender_to(hub)
    assert len(await sender.deliver(batch_of([(b"settled", None)]))) == 0
    assert hub.stats().connections_accepted == 0
