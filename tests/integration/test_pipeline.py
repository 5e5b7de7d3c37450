"""The whole pipeline end to end: events in, scored records, anomalies in store and hub, the receipt."""

from __future__ import annotations

import json
from collections import Counter
from importlib import resources
from typing import Any

import numpy as np
import orjson
import pytest
from jsonschema import Draft202012Validator

from farshore.local.kafka_tools import console_consumer
from farshore.streams.packages.loader import load_package

from ..site import FEATURES, values_of
from .pipeline_run import BAD, GOOD_EVENTS, PipelineRun

pytestmark = pytest.mark.broker

VALID_EVENTS = GOOD_EVENTS + 1
LEAVING = {"id", "site", "time", "score", "severity", "model"}


def validator(name: str) -> Draft202012Validator:
    schema = json.loads(resources.files("farshore.schemas").joinpath(f"{name}.schema.json").read_text())
    return Draft202012Validator(schema)


def source_of(value: dict[str, Any]) -> tuple[int, int]:
    return value["source"]["partition"], value["source"]["offset"]


def test_every_valid_event_is_scored_once_on_its_own_partition_with_its_own_key(
    pipeline_run: PipelineRun,
) -> None:
    keys = {(event.partition, event.offset): event.key for event in pipeline_run.events}
    scored = {
        source_of(value): record
        for record, value in zip(pipeline_run.scored, values_of(pipeline_run.scored), strict=True)
    }
    assert len(pipeline_run.scored) == len(scored) == VALID_EVENTS
    assert all(record.partition == partition for (partition, _), record in scored.items())
    assert all(record.key == keys[position] for position, record in scored.items())


def test_scored_records_keep_the_order_of_events(pipeline_run: PipelineRun) -> None:
    positions = [source_of(value) for value in values_of(pipeline_run.scored)]
    assert positions == sorted(positions)


def test_a_score_is_what_the_model_says_of_the_event(pipeline_run: PipelineRun) -> None:
    scorer = load_package(pipeline_run.site.package).scorer
    events = {(event.partition, event.offset): event.value for event in pipeline_run.events}
    values = values_of(pipeline_run.scored)[:500]
    rows = [
        [orjson.loads(events[source_of(value)])["readings"][name] for name in FEATURES] for value in values
    ]
    expected = scorer.score(np.array(rows, np.float32)).scores.tolist()
    assert [value["score"] for value in values] == expected


def test_records_are_what_their_schemas_say(pipeline_run: PipelineRun) -> None:
    for name, records in (
        ("scored", pipeline_run.scored),
        ("anomaly", pipeline_run.anomalies),
        ("delivery", pipeline_run.deliveries),
    ):
        check = validator(name)
        assert records
        for value in values_of(records):
            check.validate(value)
    check = validator("departure")
    for event in pipeline_run.hub_events:
        check.validate(orjson.loads(event.body_as_str()))


def test_each_anomaly_is_one_key_of_the_store_on_the_partition_of_its_event(
    pipeline_run: PipelineRun,
) -> None:
    scored_as_anomaly = {source_of(v) for v in values_of(pipeline_run.scored) if v["anomaly"]}
    anomalies = values_of(pipeline_run.anomalies)
    assert 50 < len(scored_as_anomaly) < 200
    assert {source_of(value) for value in anomalies} == scored_as_anomaly
    assert Counter(record.key for record in pipeline_run.anomalies).most_common(1)[0][1] == 1
    assert [record.key.decode() for record in pipeline_run.anomalies] == [value["id"] for value in anomalies]
    assert all(
        record.partition == value["source"]["partition"]
        for record, value in zip(pipeline_run.anomalies, anomalies, strict=True)
    )
    assert pipeline_run.count.store_is_complete


def test_the_ids_acknowledged_are_those_read_back_from_the_hub(pipeline_run: PipelineRun) -> None:
    at_hub = [orjson.loads(event.body_as_str())["id"] for event in pipeline_run.hub_events]
    acknowledged = {v["id"] for v in values_of(pipeline_run.deliveries) if v["outcome"] == "acknowledged"}
    assert len(at_hub) == len(set(at_hub))
    assert set(at_hub) == acknowledged == {value["id"] for value in values_of(pipeline_run.anomalies)}


def test_nothing_but_the_allowed_fields_leaves_the_site(pipeline_run: PipelineRun) -> None:
    events = pipeline_run.hub_events
    bodies = [b"".join(event.body) for event in events]
    assert bodies
    assert {frozenset(orjson.loads(body)) for body in bodies} == {frozenset(LEAVING)}
    # The whole message as it came back, not the body alone: properties and annotations travel as well.
    raw = b"".join(bodies) + repr([event.raw_amqp_message for event in events]).encode()
    raw += repr(
        [(event.properties, event.system_properties, event.partition_key) for event in events]
    ).encode()
    assert b"pump" not in raw
    for name in (b"flow", b"pressure", b"temperature", b"vibration", b"device", b"readings"):
        assert name not in raw
    for anomaly in values_of(pipeline_run.anomalies):
        for reading in anomaly["readings"].values():
            assert orjson.dumps(reading) not in raw


def test_the_hub_has_the_anomalies_of_a_partition_in_the_order_of_their_events(
    pipeline_run: PipelineRun,
) -> None:
    place = {value["id"]: source_of(value) for value in values_of(pipeline_run.anomalies)}
    by_partition: dict[int, list[int]] = {}
    for event in pipeline_run.hub_events:
        partition, offset = place[orjson.loads(event.body_as_str())["id"]]
        by_partition.setdefault(partition, []).append(offset)
    assert len(by_partition) > 1
    assert all(offsets == sorted(offsets) for offsets in by_partition.values())


def test_the_receipt_adds_up(pipeline_run: PipelineRun) -> None:
    receipt = pipeline_run.count.receipt()
    assert receipt.adds_up
    assert receipt.events == VALID_EVENTS + len(BAD)
    assert (receipt.scored, receipt.dead_letters) == (VALID_EVENTS, len(BAD))
    assert (receipt.unread, receipt.lost_to_retention, receipt.waiting, receipt.set_aside) == (0, 0, 0, 0)
    assert receipt.anomalies == receipt.acknowledged == len(pipeline_run.anomalies)


def test_a_normal_run_logs_no_warning_and_stops_in_good_order(pipeline_run: PipelineRun) -> None:
    assert [line for lines in pipeline_run.warnings.values() for line in lines] == []
    assert "Traceback" not in "".join(pipeline_run.logs.values())


def test_kafkas_own_console_consumer_reads_what_the_schema_promises(pipeline_run: PipelineRun) -> None:
    site = pipeline_run.site
    lines = console_consumer(
        site.bootstrap,
        site.settings.topic_scored,
        count_max=VALID_EVENTS,
        properties={"isolation.level": "read_committed"},
    )
    assert len(lines) == VALID_EVENTS
    check = validator("scored")
    for line in lines:
        check.validate(orjson.loads(line))
