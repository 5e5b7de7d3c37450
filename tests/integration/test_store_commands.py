"""`farshore store …` with nothing but Kafka: after a whole run, and of a store damaged on purpose."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import orjson
import pytest

from farshore.agents import store as store_module
from farshore.agents.store import open_store
from farshore.agents.store_receipt import count_store
from farshore.agents.store_selection import StoreSelection
from farshore.schemas.policy import DEFAULT_POLICY

from ..site import Site, anomaly_record, stored_in, values_of
from .pipeline_run import PipelineRun

pytestmark = pytest.mark.broker

NO_UPLINK = {
    "eventhub_connection_string": "Endpoint=sb://127.0.0.1:9;SharedAccessKeyName=n;SharedAccessKey=a2V5;EntityPath=h"
}


async def lines(site: Site, *arguments: str) -> list[dict[str, Any]]:
    done = await site.run("store", *arguments, **NO_UPLINK)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


async def test_a_run_of_the_pipeline_verifies_record_by_record(pipeline_run: PipelineRun) -> None:
    (found,) = await lines(pipeline_run.site, "verify", "--json")
    count = len(pipeline_run.anomalies)
    assert (found["checked"], found["ids_recomputed"], found["bodies_recomputed"]) == (count,) * 3
    assert found["states"] == {"acknowledged": count}
    assert found["damages"] == []


async def test_anomalies_are_listed_by_what_is_asked_for(pipeline_run: PipelineRun) -> None:
    anomalies = {value["id"]: value for value in values_of(pipeline_run.anomalies)}
    times = sorted(value["detected_at"] for value in anomalies.values())
    middle = times[len(times) // 2]
    listed, by_time, waiting, by_device, later, table = await asyncio.gather(
        lines(pipeline_run.site, "list", "--json", "--state", "acknowledged"),
        lines(pipeline_run.site, "list", "--json", "--from", str(times[0]), "--to", str(middle)),
        lines(pipeline_run.site, "list", "--json", "--state", "waiting", "--state", "held-back"),
        lines(
            pipeline_run.site,
            "list",
            "--json",
            "--device",
            "pump-3",
            "--severity",
            "low",
            "--severity",
            "high",
        ),
        lines(pipeline_run.site, "list", "--json", "--from", "2999-01-01"),
        pipeline_run.site.run("store", "list", "--limit", "5"),
    )
    assert {entry["id"]: entry["anomaly"] for entry in listed} == anomalies
    assert {entry["state"] for entry in listed} == {"acknowledged"}
    assert {entry["id"] for entry in by_device} == {
        identity
        for identity, value in anomalies.items()
        if value["device"] == "pump-3" and value["severity"] in {"low", "high"}
    }
    assert {entry["id"] for entry in by_time} == {
        identity for identity, value in anomalies.items() if value["detected_at"] < middle
    }
    assert later == waiting == []
    header, *rows = table.stdout.splitlines()
    assert header.split() == ["id", "found", "severity", "state", "score", "device"]
    assert len(rows) == 5
    assert all(row.split()[0] in anomalies for row in rows)


async def test_one_is_shown_with_what_would_leave_of_it_and_why(pipeline_run: PipelineRun) -> None:
    site, (anomaly, *_) = pipeline_run.site, values_of(pipeline_run.anomalies)
    shown, departure, unknown = await asyncio.gather(
        site.run("store", "show", anomaly["id"]),
        site.run("store", "show", anomaly["id"], "--departure"),
        site.run("store", "show", "f" * 32),
    )
    assert json.loads(shown.stdout)["anomaly"] == anomaly
    assert json.loads(shown.stdout)["delivery"]["outcome"] == "acknowledged"
    told = {line.split()[0]: line for line in departure.stdout.splitlines()}
    assert DEFAULT_POLICY.digest in told["policy"]
    assert told["device"].split()[1:] == ["not", "named:", "stays", "stays"]
    assert told["score"].split()[1:] == ["leave", json.dumps(anomaly["score"])]
    assert unknown.returncode == 1
    assert unknown.stderr == f"farshore: the store has no anomaly {'f' * 32!r}\n"


async def test_the_receipt_of_the_store_is_that_of_the_site_and_of_any_stretch_of_it(
    pipeline_run: PipelineRun,
) -> None:
    site, whole = pipeline_run.site, pipeline_run.count.receipt()
    (told,) = await lines(site, "receipt", "--json")
    assert told.items() <= whole.as_dict().items()
    times = sorted(value["detected_at"] for value in values_of(pipeline_run.anomalies))
    middle = times[len(times) // 2]
    halves = [
        await count_store(site.settings, selection)
        for selection in (StoreSelection(until_ms=middle), StoreSelection(since_ms=middle))
    ]
    assert [half.anomalies for half in halves] == [
        sum(time < middle for time in times),
        sum(time >= middle for time in times),
    ]
    assert all(half.adds_up for half in halves)


async def test_what_left_is_listed_by_batch(pipeline_run: PipelineRun) -> None:
    batches = await lines(pipeline_run.site, "audit", "--kind", "departed")
    assert sum(batch["count"] for batch in batches) == len(pipeline_run.anomalies)
    assert {batch["policy"] for batch in batches} == {DEFAULT_POLICY.digest}


async def overwrite(site: Site, number: int, value: bytes | None) -> None:
    async with site.producer() as producer:
        key = anomaly_record(number)["id"].encode()
        await producer.send_and_wait(site.settings.topic_anomalies, value, key=key, partition=number % 4)


async def test_damage_is_found_and_named(site: Site) -> None:
    bridge = await site.start("bridge")
    await site.publish_anomalies(range(20))
    await site.delivered()
    await bridge.stop()
    await overwrite(site, 3, orjson.dumps(anomaly_record(3) | {"score": 51.0}))
    await overwrite(site, 4, b"{")
    await overwrite(site, 5, orjson.dumps(anomaly_record(5) | {"device": 7}))
    await overwrite(site, 6, orjson.dumps(anomaly_record(7)))
    done = await site.run("store", "verify", **NO_UPLINK)
    assert done.returncode == 1
    assert "20 checked (20 acknowledged)" in done.stdout
    told = {
        int(line.split(", ")[1].split(":")[0], 16): line.split(": ", 1)[1]
        for line in done.stderr.splitlines()
    }
    assert told == {
        3: "the record is not what was delivered",
        4: "the value is no JSON object",
        5: "the stored anomaly's device is not a name of at most 256 characters",
        6: told[6],
    }
    assert "another partition" in done.stderr


async def test_a_range_is_sent_again_marked_when_the_line_is_up(site: Site) -> None:
    assert site.hub is not None
    bridge = await site.start("bridge")
    await site.publish_anomalies(range(12))
    await site.delivered()
    await bridge.stop()
    await site.publish_anomalies(range(12, 16))
    ids = [anomaly_record(number)["id"] for number in (2, 5, 14)]
    refused = await site.run("store", "resend", **NO_UPLINK)
    assert refused.returncode == 2
    (counted,) = await lines(site, "resend", "--json", "--dry-run", "--state", "acknowledged")
    assert counted == {"request": None, "count": 12}
    # 14 waits: it is going to be sent anyway.
    (asked,) = await lines(site, "resend", "--json", *ids)
    assert asked["count"] == 2
    (told,) = await lines(site, "receipt", "--json")
    assert (told["anomalies"], told["acknowledged"], told["waiting"]) == (16, 12, 4)
    await site.start("bridge")
    await site.delivered()
    bodies = [orjson.loads(body) for _, body in stored_in(site.hub)]
    again = [body for body in bodies if "resent" in body]
    assert {body["id"] for body in again} == set(ids[:2])
    assert {body["resent"] for body in again} == {asked["request"]}
    assert len(bodies) == 16 + 2
    deliveries = {
        value["id"]: value for value in values_of(await site.records(site.settings.topic_deliveries))
    }
    assert {identity for identity, value in deliveries.items() if value["resent"] == asked["request"]} == set(
        ids[:2]
    )
    audit = values_of(await site.records(site.settings.topic_audit))
    assert sum(value["resent"] for value in audit if value["kind"] == "departed") == 2
    (verified,) = await lines(site, "verify", "--json")
    assert (verified["checked"], verified["bodies_recomputed"], verified["damaged"]) == (16, 16, 0)


async def test_a_store_larger_than_what_is_held_at_once_is_read_in_parts(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    bridge = await site.start("bridge")
    await site.publish_anomalies(range(100))
    await site.delivered()
    await bridge.stop()
    await site.publish_anomalies(range(20))  # scored again: newer records of the same keys
    await overwrite(site, 60, None)
    await site.publish_anomalies(range(100, 120))
    whole = await count_store(site.settings, StoreSelection())
    monkeypatch.setattr(store_module, "JOINED_RECORDS_MAX", 9)
    monkeypatch.setattr("farshore.agents.topic_reader._FETCH_BYTES", 4_096)
    in_parts = await count_store(site.settings, StoreSelection())
    assert in_parts == whole
    assert (whole.anomalies, whole.acknowledged, whole.waiting) == (119, 99, 20)
    async with open_store(site.settings) as opened:
        ids = [stored.key async for stored in opened.anomalies(lambda _: True)]
    assert len(ids) == len(set(ids)) == 119
