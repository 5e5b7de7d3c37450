"""The JSON Schemas are sound, and say the same as the types and vocabularies beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

import farshore.schemas
from farshore.schemas.manifest import load_schema
from farshore.schemas.reasons import GapReason
from farshore.schemas.records import (
    TIME_MS_LIMIT,
    AnomalyRecord,
    DeliveryRecord,
    DepartedRecord,
    Departure,
    DroppedRecord,
    GapRecord,
    HoldRecord,
    Outcome,
    ReadingRecord,
    ReceiptRecord,
    RetiredRecord,
    ScoredRecord,
    Source,
)
from farshore.schemas.severity import Severity

FOLDER = Path(str(farshore.schemas.__file__)).parent
NAMES = sorted(path.name.removesuffix(".schema.json") for path in FOLDER.glob("*.schema.json"))
WRITTEN: dict[str, type] = {
    "scored": ScoredRecord,
    "anomaly": AnomalyRecord,
    "delivery": DeliveryRecord,
    "departure": Departure,
    "audit-departed": DepartedRecord,
    "audit-dropped": DroppedRecord,
    "audit-retired": RetiredRecord,
    "audit-hold": HoldRecord,
    "audit-receipt": ReceiptRecord,
    "gap": GapRecord,
    "reading": ReadingRecord,
}

SOURCE = {"topic": "events", "partition": 0, "offset": 12}
IDENTITY = "0123456789abcdef" * 2
EXAMPLES: dict[str, dict[str, Any]] = {
    "scored": {
        "device": "pump-17",
        "time": 1_690_000_000_123,
        "score": 0.5,
        "anomaly": False,
        "model": "pump@1",
        "source": SOURCE,
    },
    "anomaly": {
        "id": IDENTITY,
        "site": "harbour",
        "device": "pump-17",
        "time": 1_690_000_000_123,
        "score": 9.5,
        "threshold": 3.0,
        "severity": "high",
        "model": "pump@1",
        "model_digest": "sha256:" + "ab" * 32,
        "contributions": {"temperature": 9.5},
        "readings": {"temperature": 71.3},
        "source": SOURCE,
        "detected_at": 1_690_000_000_456,
    },
    "delivery": {
        "id": IDENTITY,
        "outcome": "acknowledged",
        "batch": "b-1",
        "time": 1_690_000_000_789,
        "detail": None,
        "offset": 17,
        "digest": "cd" * 16,
        "resent": None,
    },
    "departure": {
        "id": IDENTITY,
        "site": "harbour",
        "time": 1_690_000_000_123,
        "score": 9.5,
        "severity": "high",
        "model": "pump@1",
    },
    "audit-hold": {
        "kind": "hold",
        "site": "harbour",
        "id": IDENTITY,
        "time": 1_690_000_000_789,
        "seconds": 30.0,
    },
    "audit-receipt": {
        "kind": "receipt",
        "site": "harbour",
        "id": IDENTITY,
        "time": 1_690_000_000_789,
        "since": 1_690_000_000_123,
        "adds_up": True,
        "counts": {"anomalies": 3, "acknowledged": 3},
    },
    "audit-dropped": {
        "kind": "dropped",
        "site": "harbour",
        "id": IDENTITY,
        "time": 1_690_000_000_789,
        "partition": 2,
        "count": 3,
        "severities": {"low": 3},
        "bytes": 1_200,
        "first_time": 1_690_000_000_123,
        "last_time": 1_690_000_000_456,
        "quota_bytes": 1_048_576,
    },
    "audit-retired": {
        "kind": "retired",
        "site": "harbour",
        "id": IDENTITY,
        "time": 1_690_000_000_789,
        "partition": 2,
        "outcome": "held-back",
        "count": 3,
        "first_time": 1_690_000_000_123,
        "last_time": 1_690_000_000_456,
    },
    "audit-departed": {
        "kind": "departed",
        "site": "harbour",
        "batch": "b-1",
        "time": 1_690_000_000_789,
        "partition": 2,
        "count": 7,
        "resent": 0,
        "bytes": 1_290,
        "fields": ["id", "site"],
        "policy": "sha256:" + "ab" * 32,
    },
    "gap": {
        "kind": "gap",
        "group": "farshore-scorer",
        "topic": "events",
        "topic_id": "62fc1b71-bbb0-4f99-9876-08f8959b797d",
        "partition": 0,
        "from": 20,
        "to": 50,
        "reason": "retention",
        "time": 1_690_000_000_789,
    },
    "reading": {
        "kind": "reading",
        "group": "farshore-scorer",
        "topic": "events",
        "topic_id": "62fc1b71-bbb0-4f99-9876-08f8959b797d",
        "partition": 0,
        "time": 1_690_000_000_789,
    },
}


def is_valid(name: str, document: object) -> bool:
    return bool(Draft202012Validator(load_schema(name)).is_valid(document))


def test_the_folder_holds_the_schemas_that_are_known() -> None:
    assert set(NAMES) >= {*WRITTEN, "event", "manifest"}


@pytest.mark.parametrize("name", NAMES)
def test_every_schema_is_a_valid_draft_2020_12_schema_with_an_id_of_its_own(name: str) -> None:
    schema = load_schema(name)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == f"urn:farshore:schema:{name}:1"
    Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize(("name", "record"), WRITTEN.items())
def test_a_record_that_we_write_has_exactly_the_members_of_its_schema(name: str, record: type) -> None:
    schema = load_schema(name)
    assert set(schema["properties"]) == set(record.__annotations__)
    assert set(schema["required"]) == set(record.__required_keys__)  # type: ignore[attr-defined]
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize("name", WRITTEN)
def test_an_example_is_valid_and_none_of_its_members_may_be_absent_or_foreign(name: str) -> None:
    example = EXAMPLES[name]
    assert is_valid(name, example)
    for member in example:
        assert not is_valid(name, {key: value for key, value in example.items() if key != member})
    assert not is_valid(name, example | {"extra": 1})


@pytest.mark.parametrize("name", ["scored", "anomaly"])
def test_a_source_has_exactly_topic_partition_and_offset(name: str) -> None:
    source = load_schema(name)["properties"]["source"]
    assert set(source["properties"]) == set(source["required"]) == set(Source.__annotations__)
    assert not is_valid(name, EXAMPLES[name] | {"source": SOURCE | {"offset": -1}})


@pytest.mark.parametrize("name", WRITTEN)
def test_times_lie_from_1970_to_2099(name: str) -> None:
    for time, valid in (
        (0, True),
        (TIME_MS_LIMIT - 1, True),
        (-1, False),
        (TIME_MS_LIMIT, False),
        (1.5, False),
    ):
        assert is_valid(name, EXAMPLES[name] | {"time": time}) is valid, time


@pytest.mark.parametrize("name", ["anomaly", "departure"])
def test_severities_are_the_closed_vocabulary(name: str) -> None:
    assert load_schema(name)["properties"]["severity"]["enum"] == [level.value for level in Severity]


def test_manifest_levels_are_the_same_vocabulary() -> None:
    levels = load_schema("manifest")["properties"]["severity"]["items"]["properties"]["level"]["enum"]
    assert levels == [level.value for level in Severity]
    assert [Severity(level).rank for level in levels] == [0, 1, 2, 3]


def test_outcomes_are_the_closed_vocabulary() -> None:
    enum = load_schema("delivery")["properties"]["outcome"]["enum"]
    assert enum == [outcome.value for outcome in Outcome]


def test_reasons_of_gaps_are_the_closed_vocabulary_and_what_is_not_known_is_null() -> None:
    assert load_schema("gap")["properties"]["reason"]["enum"] == [reason.value for reason in GapReason]
    assert is_valid("gap", EXAMPLES["gap"] | {"topic_id": None, "from": None, "to": None, "reason": "remade"})
    assert not is_valid("gap", EXAMPLES["gap"] | {"partition": None})


def test_contributions_may_be_null_and_readings_may_not() -> None:
    assert is_valid("anomaly", EXAMPLES["anomaly"] | {"contributions": None})
    assert not is_valid("anomaly", EXAMPLES["anomaly"] | {"readings": None})


@pytest.mark.parametrize("member", ["device", "readings", "threshold", "contributions", "source"])
def test_what_leaves_the_site_carries_no_device_and_no_reading(member: str) -> None:
    with pytest.raises(ValidationError):
        Draft202012Validator(load_schema("departure")).validate(EXAMPLES["departure"] | {member: None})


@pytest.mark.parametrize(
    ("event", "valid"),
    [
        ({"device": "p", "time": 1_690_000_000_123, "readings": {"temperature": 71.3}}, True),
        ({"device": "p", "time": "2023-07-22T04:26:40Z", "readings": [71.3, 2]}, True),
        ({"device": "p", "time": 0, "readings": {}, "operator": "ann"}, True),
        ({"device": "", "time": 0, "readings": {}}, False),
        ({"device": "p", "time": None, "readings": {}}, False),
        ({"device": "p", "time": 0, "readings": {"temperature": "71.3"}}, False),
        ({"device": "p", "time": 0}, False),
    ],
)
def test_the_default_layout_of_an_event(event: object, valid: bool) -> None:
    assert is_valid("event", event) is valid
