"""The store's keeper on a real broker: what is retired, what never is, and what a quota takes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from jsonschema import Draft202012Validator

from farshore.agents.outbox import Outbox
from farshore.agents.store_receipt import count_store
from farshore.agents.store_retirement import Retirement
from farshore.agents.store_selection import StoreSelection
from farshore.agents.topic_reader import open_reader
from farshore.local.eventhubs import FaultKind
from farshore.schemas.manifest import load_schema
from farshore.schemas.records import Outcome
from farshore.streams.scoring.pipeline import Columns

from ..site import Site, anomaly_record, stored_in, until, values_of

pytestmark = pytest.mark.broker

SECOND_IN_DAYS = 1 / 86_400
REQUEST = "f" * 32


async def publish(site: Site, records: list[dict[str, Any]]) -> None:
    async with site.producer(enable_idempotence=True) as producer:
        for record in records:
            await producer.send(
                site.settings.topic_anomalies,
                orjson.dumps(record),
                key=record["id"].encode(),
                partition=int(record["id"], 16) % 4,
            )
        await producer.flush()


async def settle(site: Site, outcomes: list[tuple[int, int, str]]) -> None:
    """An outcome for each number and place; what is acknowledged was sent again on request."""
    async with site.producer(enable_idempotence=True) as producer:
        for number, place, outcome in outcomes:
            value = {
                "id": f"{number:032x}",
                "outcome": outcome,
                "batch": None,
                "time": 0,
                "detail": None,
                "offset": place,
                "digest": None,
                "resent": REQUEST if outcome == "acknowledged" else None,
            }
            await producer.send(
                site.settings.topic_deliveries,
                orjson.dumps(value),
                key=value["id"].encode(),
                partition=number % 4,
            )
        await producer.flush()


async def live(site: Site, topic: str) -> dict[int, dict[str, Any]]:
    """The newest value of each key that is no tombstone, by number."""
    newest = {record.key: record.value for record in await site.records(topic)}
    return {int(key, 16): orjson.loads(value) for key, value in newest.items() if value is not None}


async def test_delivered_anomalies_are_retired_after_their_retention_and_no_others(
    site: Site, tmp_path: Path
) -> None:
    assert site.hub is not None
    policy = tmp_path / "policy.toml"
    policy.write_text('version = 1\n[fields]\nid = "leave"\n[never]\ndevices = ["pump-3"]\n')
    names = site.settings.topics
    bridge = await site.start(
        "bridge",
        policy=str(policy),
        store_retention_days=str(SECOND_IN_DAYS),
        store_interval_seconds="0.5",
    )
    await site.publish_anomalies(range(80))
    held_back = {number for number in range(80) if number % 8 == 3}
    await until(
        lambda: bridge.metric("farshore_store_retired_total") >= 70, lambda: f"retired; log:\n{bridge.log}"
    )
    assert set(await live(site, names.anomalies)) == set(await live(site, names.deliveries)) == held_back
    # A new outage: what waits stays, however old it grows.
    await site.hub.fault(FaultKind.REFUSE)
    await site.publish_anomalies(range(80, 96))
    await until(lambda: bridge.metric("farshore_uplink_attempts_total", result="lost") >= 3, "offline")
    looked_at = bridge.metric("farshore_store_kept_timestamp_seconds")
    await until(
        lambda: bridge.metric("farshore_store_kept_timestamp_seconds") > looked_at + 2, "looked again"
    )
    waiting = set(range(80, 96)) - {number for number in range(96) if number % 8 == 3}
    assert set(await live(site, names.anomalies)) >= held_back | waiting
    receipt = await count_store(site.settings, StoreSelection())
    assert receipt.adds_up
    assert receipt.acknowledged == 0
    assert bridge.lines("ERROR") == []
    await bridge.stop()


async def test_what_is_held_back_is_let_go_after_its_own_retention_and_told(
    site: Site, tmp_path: Path
) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('version = 1\n[fields]\nid = "leave"\n[never]\ndevices = ["pump-3", "pump-4"]\n')
    names = site.settings.topics
    bridge = await site.start(
        "bridge",
        policy=str(policy),
        store_held_retention_days=str(SECOND_IN_DAYS),
        store_interval_seconds="0.5",
    )
    await site.publish_anomalies(range(80))
    held_back = {number for number in range(80) if number % 8 in (3, 4)}
    await until(
        lambda: bridge.metric("farshore_store_retired_total") >= 20, lambda: f"let go; log:\n{bridge.log}"
    )
    # What was delivered has a retention of its own, 30 days here.
    assert set(await live(site, names.anomalies)) == set(range(80)) - held_back
    assert set(await live(site, names.deliveries)) == set(range(80)) - held_back
    receipt = await count_store(site.settings, StoreSelection())
    assert receipt.adds_up
    assert (receipt.acknowledged, receipt.held_back) == (60, 0)
    told = [v for v in values_of(await site.records(names.audit)) if v["kind"] == "retired"]
    for value in told:
        Draft202012Validator(load_schema("audit-retired")).validate(value)
    assert sum(value["count"] for value in told) == len(held_back)
    assert {value["partition"] for value in told} == {number % 4 for number in held_back}
    assert bridge.lines("ERROR") == []
    await bridge.stop()


async def test_what_is_sent_again_is_not_let_go_by_its_older_outcome_and_arrives(site: Site) -> None:
    """Held back, sent again in an outage, and too old by then: it was gone before the line was back."""
    hub, names = site.hub, site.settings.topics
    assert hub is not None
    await hub.fault(FaultKind.REFUSE)
    held, waits_again, settled_again = range(32), range(16, 24), range(24, 32)
    again = [*waits_again, *settled_again]
    # As they come to stand there: each partition has 8 anomalies and then those that are sent again.
    await publish(site, [anomaly_record(number) for number in held])
    await publish(site, [anomaly_record(number) | {"resent": REQUEST} for number in again])
    await settle(site, [(number, number // 4, "held-back") for number in held])
    await settle(site, [(number, 8 + (number - 16) // 4, "acknowledged") for number in settled_again])
    bridge = await site.start(
        "bridge", store_held_retention_days=str(SECOND_IN_DAYS), store_interval_seconds="0.5"
    )
    await until(lambda: bridge.metric("farshore_store_retired_total") >= 16, f"let go; log:\n{bridge.log}")
    looked_at = bridge.metric("farshore_store_kept_timestamp_seconds")
    await until(
        lambda: bridge.metric("farshore_store_kept_timestamp_seconds") > looked_at + 1, "looked again"
    )
    assert set(await live(site, names.anomalies)) == set(await live(site, names.deliveries)) == set(again)
    told = [value for value in values_of(await site.records(names.audit)) if value["kind"] == "retired"]
    assert sum(value["count"] for value in told) == 16
    await hub.clear()
    await site.delivered()
    arrived = [int(orjson.loads(body)["id"], 16) for _, body in stored_in(hub)]
    assert sorted(arrived) == list(waits_again)
    outcomes = {value["outcome"] for value in (await live(site, names.deliveries)).values()}
    assert outcomes == {"acknowledged"}
    assert set(await live(site, names.anomalies)) == set(again)
    await bridge.stop()


class Retired(Outbox):
    """Keeps the numbers of tombstones by topic."""

    def __init__(self) -> None:
        self.numbers: dict[str, list[int]] = {}

    async def put_all(self, parcels: Sequence[tuple[str, int, Columns]]) -> None:
        """Note them."""
        for topic, _, columns in parcels:
            gone = [key for key, value in zip(columns.keys, columns.values, strict=True) if value is None]
            self.numbers.setdefault(topic, []).extend(int(key or b"", 16) for key in gone)


async def test_a_new_outcome_has_its_whole_retention_however_old_the_one_before_it_is(site: Site) -> None:
    """The older outcome, until the log is cleaned of it, retired what had been sent again since."""
    names, numbers = site.settings.topics, range(0, 16, 4)
    await settle(site, [(number, number // 4, "held-back") for number in numbers])
    await asyncio.sleep(0.05)
    now = max(record.timestamp for record in await site.records(names.deliveries)) + 1
    await settle(site, [(number, 4 + number // 4, "acknowledged") for number in numbers[2:]])
    retired = Retired()
    outcomes = (Outcome.HELD_BACK, Outcome.ACKNOWLEDGED)
    keeper = Retirement(site.settings, retired, outcomes, 0.0, wall_clock=lambda: now / 1_000)
    async with open_reader(site.bootstrap, "some-keeper") as reader:
        await keeper.look(reader, frozenset({0}), {0: 6})
        for topic in (names.anomalies, names.deliveries):
            assert retired.numbers[topic] == list(numbers[:2])
        now += 60_000
        await keeper.look(reader, frozenset({0}), {0: 6})
    assert retired.numbers[names.anomalies] == list(numbers)


async def test_a_reader_that_is_closed_at_once_cancels_nobody(site: Site) -> None:
    """The keeper was cancelled by one that it had opened and did not need: a task that had not begun."""
    for _ in range(3):
        async with open_reader(site.bootstrap):
            pass


def mixed(numbers: range) -> list[dict[str, Any]]:
    """Every fourth anomaly is low, every fourth medium, the rest critical; about 2 kB each."""
    severities = ("low", "critical", "medium", "critical")
    return [
        anomaly_record(number, readings=80)
        | {"severity": severities[number // 4 % 4], "detected_at": 1_700_000_000_000 + number}
        for number in numbers
    ]


async def test_a_quota_drops_the_lowest_severity_first_tells_it_and_the_receipt_adds_up(site: Site) -> None:
    assert site.hub is not None
    await site.hub.fault(FaultKind.REFUSE)
    records = mixed(range(1_200))
    await publish(site, records)
    written = sum(len(orjson.dumps(record)) for record in records)
    quota = 2 * 1024 * 1024
    assert written > 0.8 * quota
    bridge = await site.start(
        "bridge",
        store_quota_bytes=str(quota),
        store_high_water="0.8",
        store_quota_policy="drop-lowest-severity",
        store_interval_seconds="0.5",
        store_settle_seconds="3600",
    )
    await until(lambda: bridge.metric("farshore_store_bytes") >= written, "measured")
    assert bridge.metric("farshore_store_high_water_bytes") == 0.8 * quota
    # Within a settle period of the start nothing is dropped: the last drop's room may be still to come.
    assert bridge.metric("farshore_deliveries_total", outcome="dropped-by-quota") == 0
    await bridge.stop()
    bridge = await site.start(
        "bridge",
        store_quota_bytes=str(quota),
        store_quota_policy="drop-lowest-severity",
        store_interval_seconds="0.5",
        store_settle_seconds="5",
    )
    await until(
        lambda: bridge.metric("farshore_deliveries_total", outcome="dropped-by-quota") > 0,
        lambda: f"dropped; log:\n{bridge.log}",
    )
    await bridge.stop()
    dropped = {
        int(value["id"], 16) for value in values_of(await site.records(site.settings.topic_deliveries))
    }
    by_number = {int(record["id"], 16): record for record in records}
    levels = {by_number[number]["severity"] for number in dropped}
    assert levels <= {"low", "medium"}
    if "medium" in levels:
        assert dropped >= {number for number, record in by_number.items() if record["severity"] == "low"}
    for partition in range(4):
        low = [n for n in by_number if n % 4 == partition and by_number[n]["severity"] == "low"]
        gone = [number for number in low if number in dropped]
        assert gone == low[: len(gone)], "oldest first"
    assert set(await live(site, site.settings.topic_anomalies)) == by_number.keys() - dropped
    receipt = await count_store(site.settings, StoreSelection())
    assert receipt.adds_up
    assert (receipt.anomalies, receipt.dropped_by_quota) == (1_200, len(dropped))
    audit = [v for v in values_of(await site.records(site.settings.topic_audit)) if v["kind"] == "dropped"]
    for value in audit:
        Draft202012Validator(load_schema("audit-dropped")).validate(value)
    assert sum(value["count"] for value in audit) == len(dropped)
    await site.hub.clear()
    await site.start("bridge", store_interval_seconds="0.5")
    await site.delivered()

    def notices() -> list[dict[str, Any]]:
        assert site.hub is not None
        bodies = [orjson.loads(body) for _, body in stored_in(site.hub)]
        return [body for body in bodies if body.get("kind") == "dropped"]

    await until(lambda: {body["id"] for body in notices()} == {value["id"] for value in audit}, "told")
    for body in notices():
        Draft202012Validator(load_schema("notice")).validate(body)
    at_hub = {int(orjson.loads(body)["id"], 16) for _, body in stored_in(site.hub) if b'"kind"' not in body}
    assert at_hub == by_number.keys() - dropped
    assert (await count_store(site.settings, StoreSelection())).adds_up
