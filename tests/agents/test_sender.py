"""The sender: every anomaly to an outcome, in order, whatever its size."""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import Any

import orjson
import pytest

from farshore.agents.departures import Outcomes, body_digest
from farshore.agents.leaving import leaving_of
from farshore.agents.uplink_errors import UplinkTooLargeError
from farshore.local.eventhubs import EventHubsStandIn, FaultKind
from farshore.schemas.policy import parse_policy
from farshore.schemas.records import Outcome
from farshore.streams.delivery.breaker import BUSY_SECONDS_MIN
from farshore.streams.delivery.policy import Policy

from ..site import stored_in
from ..site_hub import read_hub
from .senders import (
    LANE,
    NothingSettled,
    at_hub,
    batch_of,
    deliver,
    details,
    leaving,
    record,
    sender_to,
)


def test_tombstones_damaged_records_and_repeats_never_reach_the_link() -> None:
    batch = batch_of([record(1), (b"gone", None), (b"damaged", b"{}"), (None, b"{}"), record(1), record(2)])
    outcomes = Outcomes()
    found = leaving_of(batch, NothingSettled(), outcomes, Policy())
    assert [(anomaly.key, anomaly.offset) for anomaly in found] == [(record(1)[0], 0), (record(2)[0], 5)]
    assert outcomes.counts == {Outcome.SET_ASIDE: 1}
    assert details(outcomes)[b"damaged"]["outcome"] == "set-aside"
    assert details(outcomes)[b"damaged"]["offset"] == 2
    assert "lacks id" in details(outcomes)[b"damaged"]["detail"]


async def test_every_outcome_of_what_was_sent_again_says_so(hub: EventHubsStandIn) -> None:
    """Retirement knows by it that an older outcome is not the last one."""
    request = "f" * 32
    records = [record(number, resent=request) for number in range(2)]
    records.append(record(2, resent=request, time="noon"))
    outcomes = Outcomes()
    fields = {"id": "leave", "time": "leave"}
    held = Policy(parse_policy({"version": 1, "fields": fields, "never": {"devices": ["pump-1"]}}))
    (found,) = leaving_of(batch_of(records), NothingSettled(), outcomes, held)
    _, found.body = record(0, model="m" * 2_000_000 + "@1")
    sender, uplink = sender_to(hub)
    await sender.deliver(LANE, [found], outcomes)
    await uplink.close()
    assert outcomes.counts == {Outcome.HELD_BACK: 1, Outcome.SET_ASIDE: 2}
    assert {value["resent"] for value in details(outcomes).values()} == {request}


async def test_what_was_sent_together_has_one_batch_and_each_its_place(hub: EventHubsStandIn) -> None:
    sender, uplink = sender_to(hub)
    outcomes = await deliver(sender, leaving(1), leaving(2))
    await uplink.close()
    assert at_hub(hub) == [1, 2]
    first, second = (details(outcomes)[record(number)[0]] for number in (1, 2))
    assert first["batch"] == second["batch"]
    assert (first["offset"], second["offset"]) == (1, 2)
    assert first["detail"] is None
    (audit,) = map(orjson.loads, outcomes.audit.values)
    assert (audit["batch"], audit["count"], audit["partition"]) == (first["batch"], 2, 1)
    bodies = [body for _, body in stored_in(hub)]
    assert audit["bytes"] == sum(map(len, bodies))
    assert [first["digest"], second["digest"]] == [body_digest(body) for body in bodies]


async def test_an_anomaly_too_large_loses_readings_then_contributions_then_its_turn() -> None:
    async with EventHubsStandIn(hub="anomalies", partitions=2, link_bytes_max=2_048) as hub:
        sender, uplink = sender_to(hub)
        many = {f"reading-{number}": 1.0 for number in range(100)}
        anomalies = [leaving(number) for number in range(6)]
        anomalies[1] = leaving(1, readings=many)
        anomalies[2] = leaving(2, readings=many, contributions=many)
        anomalies[3] = leaving(3, model="m" * 3_000 + "@1", readings=many)
        outcomes = await deliver(sender, *anomalies)
        await uplink.close()
        assert outcomes.counts == {Outcome.ACKNOWLEDGED: 5, Outcome.SET_ASIDE: 1}
        assert at_hub(hub) == [0, 1, 2, 4, 5]
        bodies = [orjson.loads(body) for _, body in stored_in(hub)]
        assert [body.get("cut") for body in bodies] == [
            None,
            ["readings"],
            ["readings", "contributions"],
            None,
            None,
        ]
        assert "readings" not in bodies[1]
        assert bodies[1]["contributions"] is None
        assert not bodies[2].keys() & {"readings", "contributions"}
        told = [details(outcomes)[record(number)[0]]["detail"] for number in range(4)]
        assert told == [
            None,
            "without readings",
            "without readings and contributions",
            "larger than the link takes",
        ]


async def test_a_service_that_takes_less_than_its_link_promised_is_sent_less(
    hub: EventHubsStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender, uplink = sender_to(hub)
    await uplink.connect(LANE)
    real = uplink.new_batch

    def too_large(lane: int, _bytes_max: int | None = None) -> Any:
        batch = real(lane)
        batch.bytes_max *= 4
        return batch

    monkeypatch.setattr(uplink, "new_batch", too_large)
    outcomes = await deliver(sender, *(leaving(number, model="m" * 200_000 + "@1") for number in range(8)))
    await uplink.close()
    assert at_hub(hub) == list(range(8))
    assert outcomes.counts == {Outcome.ACKNOWLEDGED: 8}


async def test_a_link_that_is_refused_as_too_large_before_anything_was_sent_sets_nothing_aside(
    hub: EventHubsStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sizes of attaching a link are none of an anomaly's: the sender waits and tries again."""
    sender, uplink = sender_to(hub)
    real = uplink.connect
    refusals = iter(range(2))

    async def refused_at_first(lane: int) -> None:
        if next(refusals, None) is not None:
            raise UplinkTooLargeError("message-size-exceeded")
        await real(lane)

    monkeypatch.setattr(uplink, "connect", refused_at_first)
    outcomes = await deliver(sender, leaving(1), leaving(2))
    await uplink.close()
    assert next(refusals, None) is None
    assert at_hub(hub) == [1, 2]
    assert outcomes.counts == {Outcome.ACKNOWLEDGED: 2}


async def test_an_outage_is_two_lines_however_many_attempts_it_took(
    hub: EventHubsStandIn, caplog: pytest.LogCaptureFixture
) -> None:
    sender, uplink = sender_to(hub)
    caplog.set_level(logging.INFO, "farshore.agents.sender")
    await deliver(sender, leaving(1))
    await hub.fault(FaultKind.REJECT, 2)
    await deliver(sender, leaving(2))
    await uplink.close()
    told = [record.getMessage().split(":")[0] for record in caplog.records]
    assert told == ["uplink online", "uplink offline", "uplink online"]
    assert at_hub(hub) == [1, 2]


async def test_a_lost_acknowledgement_repeats_one_batch_and_no_more() -> None:
    # So small a link that the anomalies make several batches.
    async with EventHubsStandIn(hub="anomalies", partitions=2, link_bytes_max=4_096) as hub:
        sender, uplink = sender_to(hub)
        await hub.fault(FaultKind.DROP_AFTER_STORE, 2)
        outcomes = await deliver(sender, *(leaving(number) for number in range(20)))
        await uplink.close()
        sent_as = Counter(value["batch"] for value in details(outcomes).values())
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
    await deliver(sender, leaving(1))
    await hub.fault(FaultKind.BUSY, 2)
    began = time.monotonic()
    await deliver(sender, leaving(2))
    assert time.monotonic() - began >= 2 * BUSY_SECONDS_MIN
    await uplink.close()
    assert hub.stats().sends_refused == 2
    assert at_hub(hub) == [1, 2]
    told = [record.getMessage().split(":")[0] for record in caplog.records]
    assert told == ["uplink online", "uplink throttled", "uplink online"]


async def test_nothing_to_deliver_needs_no_link(hub: EventHubsStandIn) -> None:
    sender, _ = sender_to(hub)
    assert len(await deliver(sender)) == 0
    assert hub.stats().connections_accepted == 0


async def test_packs_hold_as_many_as_fit_and_lose_none_of_them() -> None:
    async with EventHubsStandIn(hub="anomalies", partitions=2, link_bytes_max=8_192) as hub:
        sender, uplink = sender_to(hub, pack_anomalies_max=8)
        anomalies = [leaving(number) for number in range(50)]
        # Too large for a pack of eight, and one that goes by itself.
        anomalies[10:12] = [leaving(number, readings={"a" * 2_000: 1.0}) for number in (10, 11)]
        anomalies[30] = leaving(30, readings={"a" * 7_000: 1.0})
        outcomes = await deliver(sender, *anomalies)
        await uplink.close()
        assert outcomes.counts == {Outcome.ACKNOWLEDGED: 50}
        bodies = [orjson.loads(body) for _, body in stored_in(hub)]
        packs = [body if isinstance(body, list) else [body] for body in bodies]
        assert [int(body["id"], 16) for pack in packs for body in pack] == list(range(50))
        assert max(map(len, packs)) == 8
        events = await read_hub(hub)
        for event, pack in zip(events, packs, strict=True):
            properties = {name.decode(): value.decode() for name, value in event.properties.items()}
            many = f"+{len(pack)}" if len(pack) > 1 else ""
            assert properties["cloudEvents:id"] == pack[0]["id"] + many
            assert properties["cloudEvents:type"] == ("farshore.anomalies" if many else "farshore.anomaly")
