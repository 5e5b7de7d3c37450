"""Batches to records: nothing lost, nothing twice, and no score that depends on its batch."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from onnx import TensorProto, helper

from farshore.schemas.manifest import load_schema
from farshore.streams.packages.loader import ModelPackage, load_package
from farshore.streams.scoring.pipeline import BatchResult, Columns, EventPipeline
from farshore.streams.transport.batch import PartitionBatch

NOW = 1_700_000_000_000
Events = Callable[..., bytes]
Batches = Callable[..., PartitionBatch]
Pack = Callable[..., Path]


def pipeline(package: ModelPackage, *, rows_max: int = 256, site: str = "harbour") -> EventPipeline:
    return EventPipeline(package, site=site, event_bytes_max=10_000, batch_rows_max=rows_max)


def records(columns: Columns) -> list[dict[str, object]]:
    return [json.loads(value or b"") for value in columns.values]


def offsets(columns: Columns) -> list[int]:
    if columns.headers:
        return [int(dict(headers)["offset"]) for headers in columns.headers]
    return [record["source"]["offset"] for record in records(columns)]  # type: ignore[index]


@pytest.fixture(scope="module")
def thousand(event_bytes: Events) -> list[bytes]:
    """1,024 events, every eighth of them far from normal."""
    rng = np.random.default_rng(8)
    rows = np.array([20.0, 3.0, 0.5]) + rng.normal(size=(1_024, 3)) * [2.0, 0.5, 0.1]
    rows[::8, 1] += 10.0
    return [event_bytes(*row, time=1_690_000_000_000 + index) for index, row in enumerate(rows.tolist())]


@pytest.mark.parametrize("rows_max", [1, 32, 256])
def test_the_limit_on_a_batch_changes_no_bit_of_any_record(
    sample: ModelPackage, batch_of: Batches, thousand: list[bytes], rows_max: int
) -> None:
    whole = pipeline(sample, rows_max=1_024).process(batch_of(thousand), now_ms=NOW)
    pieces = pipeline(sample, rows_max=rows_max).process(batch_of(thousand), now_ms=NOW)
    assert len(whole.scored) == 1_024
    assert len(whole.anomalies) >= 128
    assert pieces == whole


def test_neither_does_the_place_of_an_event_among_bad_ones(
    sample: ModelPackage, batch_of: Batches, thousand: list[bytes]
) -> None:
    clean = pipeline(sample).process(batch_of(thousand[:100]), now_ms=NOW)
    mixed = pipeline(sample).process(
        batch_of([value for good in thousand[:100] for value in (b"{", good)]), now_ms=NOW
    )
    scores = [[record["score"] for record in records(result.scored)] for result in (clean, mixed)]
    assert scores[0] == scores[1]


VALUES = st.sampled_from(
    [
        b'{"device":"a","time":1,"readings":{"temperature":20,"pressure":3,"vibration":0.5}}',
        b'{"device":"b","time":2,"readings":[20,30,0.5]}',
        b'{"device":"c","time":3,"readings":[3e38,-3e38,3e38]}',
        b'{"device":"d","time":4,"readings":[1e39,0,0]}',
        b'{"device":"e","time":5,"readings":[1,2]}',
        b"{",
        b"",
        None,
        b"\xff",
        b"[1]",
        b" " * 10_001,
    ]
)


@given(
    values=st.lists(VALUES, min_size=1, max_size=40),
    gaps=st.lists(st.integers(1, 5), min_size=40, max_size=40),
    rows_max=st.integers(1, 10),
)
def test_every_event_is_scored_or_a_dead_letter_and_none_is_both(
    sample: ModelPackage, values: list[bytes | None], gaps: list[int], rows_max: int
) -> None:
    positions = np.cumsum(gaps)[: len(values)].tolist()
    keys = [b"%d" % offset for offset in positions]
    batch = PartitionBatch("events", 1, positions[-1] + 9, positions, positions, keys, values, 0)
    result = pipeline(sample, rows_max=rows_max).process(batch, now_ms=NOW)

    assert sorted(offsets(result.scored) + offsets(result.dead_letters)) == positions
    for columns in (result.scored, result.dead_letters):
        assert offsets(columns) == sorted(offsets(columns))
        assert columns.keys == [b"%d" % offset for offset in offsets(columns)]
    flagged = [
        offset
        for offset, record in zip(offsets(result.scored), records(result.scored), strict=True)
        if record["anomaly"]
    ]
    assert offsets(result.anomalies) == flagged
    assert len(result.severities) == len(result.anomalies)
    assert len(result.rejections) == len(result.dead_letters)


@given(
    parts=st.lists(st.lists(VALUES, min_size=1, max_size=12), min_size=1, max_size=5),
    rows_max=st.integers(1, 10),
)
def test_batches_that_are_scored_together_give_what_each_gives_alone(
    sample: ModelPackage, batch_of: Batches, parts: list[list[bytes | None]], rows_max: int
) -> None:
    batches = [batch_of(values, partition=number % 3) for number, values in enumerate(parts)]
    scoring = pipeline(sample, rows_max=rows_max)
    assert scoring.process_all(batches, now_ms=NOW) == [
        scoring.process(batch, now_ms=NOW) for batch in batches
    ]


def test_neither_is_a_score_that_is_not_finite_given_to_another_partition(
    quotient_package: ModelPackage, batch_of: Batches
) -> None:
    numbers = ((b"2", b"4"), (b"0", b"1", b"-0.0"), (b"true",), (b"1",))
    batches = [
        batch_of([b'{"device":"d","time":0,"readings":[%b]}' % number for number in part], partition=place)
        for place, part in enumerate(numbers)
    ]
    results = pipeline(quotient_package).process_all(batches, now_ms=NOW)
    assert results == [pipeline(quotient_package).process(batch, now_ms=NOW) for batch in batches]
    assert [offsets(result.dead_letters) for result in results] == [[], [100, 102], [100], []]


def test_the_records_are_what_their_schemas_say(
    sample: ModelPackage, batch_of: Batches, thousand: list[bytes]
) -> None:
    result = pipeline(sample).process(batch_of(thousand), now_ms=NOW)
    for name, columns in (("scored", result.scored), ("anomaly", result.anomalies)):
        validator = Draft202012Validator(load_schema(name))
        for record in records(columns):
            validator.validate(record)


def test_an_anomaly_tells_all_that_is_known_of_it(
    sample: ModelPackage, batch_of: Batches, event_bytes: Events
) -> None:
    batch = batch_of([event_bytes(), event_bytes(20.0, 30.0, 0.5)])
    result = pipeline(sample).process(batch, now_ms=NOW)
    assert [record["anomaly"] for record in records(result.scored)] == [False, True]
    (record,) = records(result.anomalies)
    scored = records(result.scored)[1]

    assert result.anomalies.keys == [str(record["id"]).encode()]
    assert record["source"] == {"topic": "events", "partition": 3, "offset": 101} == scored["source"]
    for member in ("device", "time", "score", "model"):
        assert record[member] == scored[member]
    assert (record["site"], record["device"], record["time"]) == ("harbour", "pump-17", 1_690_000_000_123)
    assert record["readings"] == {"temperature": 20.0, "pressure": 30.0, "vibration": 0.5}
    assert record["threshold"] == sample.manifest.threshold
    assert record["model_digest"] == sample.digest
    assert record["severity"] == result.severities[0] == "critical"
    assert record["detected_at"] == NOW
    contributions = record["contributions"]
    assert isinstance(contributions, dict)
    assert max(contributions, key=contributions.__getitem__) == "pressure"


def test_scoring_again_overwrites_the_same_anomalies_and_changes_only_when_they_were_detected(
    sample: ModelPackage, batch_of: Batches, thousand: list[bytes]
) -> None:
    first = pipeline(sample).process(batch_of(thousand), now_ms=NOW)
    again = pipeline(sample).process(batch_of(thousand), now_ms=NOW + 5)
    assert again.scored == first.scored
    assert again.anomalies.keys == first.anomalies.keys
    for before, after in zip(records(first.anomalies), records(again.anomalies), strict=True):
        assert before | {"detected_at": NOW + 5} == after


def test_no_two_anomalies_share_an_id_not_even_of_equal_events(
    sample: ModelPackage, batch_of: Batches, event_bytes: Events
) -> None:
    batch = batch_of([event_bytes(20.0, 30.0)] * 50)
    renewed = replace(batch, timestamps_ms=[stamp + 1 for stamp in batch.timestamps_ms])
    ids = [
        key
        for here, site in ((batch, "harbour"), (batch, "quay"), (renewed, "harbour"))
        for key in pipeline(sample, site=site).process(here, now_ms=NOW).anomalies.keys
    ]
    assert len(set(ids)) == len(ids) == 150


def test_a_dead_letter_is_the_original_bytes_with_where_they_stood_and_why(
    sample: ModelPackage, batch_of: Batches
) -> None:
    result = pipeline(sample).process(batch_of([b'{"device": "ma\xff"'], partition=7), now_ms=NOW)
    letters = result.dead_letters
    assert (letters.keys, letters.values) == ([b"k"], [b'{"device": "ma\xff"'])
    headers = dict(letters.headers[0])
    assert headers == {
        "reason": b"not-utf8",
        "detail": b"byte 14 is no UTF-8: invalid start byte",
        "topic": b"events",
        "partition": b"7",
        "offset": b"100",
    }


@pytest.fixture
def table_package(build: Callable[..., bytes], pack: Pack) -> ModelPackage:
    """A model that fails on every whole number but 0 and 1, and with it the batch that holds one."""
    model = build(
        [
            helper.make_node("Gather", ["table", "x"], ["each"]),
            helper.make_node("Squeeze", ["each", "last"], ["y"]),
            helper.make_node("Identity", ["y"], ["parts"]),
        ],
        inputs={"x": (TensorProto.INT64, ["batch", 1])},
        outputs=["y", "parts"],
        constants={"table": np.array([[0.5], [2.5]], np.float32), "last": np.array([2], np.int64)},
    )
    tensor = {"name": "x", "dtype": "int64", "shape": ["batch", 1]}
    return load_package(pack(model, 1, input=tensor, contributions={"output": "parts"}))


@pytest.mark.parametrize("rows_max", [1, 2, 100])
def test_a_row_that_the_model_fails_on_is_the_only_dead_letter_of_its_batch(
    table_package: ModelPackage, batch_of: Batches, rows_max: int
) -> None:
    values = [b'{"device":"d","time":%d,"readings":[%d]}' % (row, row % 2) for row in range(10)]
    values[4] = b'{"device":"d","time":4,"readings":[7]}'
    result = pipeline(table_package, rows_max=rows_max).process(batch_of(values), now_ms=NOW)
    (letter,) = result.rejections
    assert (letter.index, letter.reason) == (4, "model-output")
    assert "out of data bounds" in letter.detail
    assert result.dead_letters.values == [values[4]]
    assert [record["score"] for record in records(result.scored)] == [
        0.5,
        2.5,
        0.5,
        2.5,
        2.5,
        0.5,
        2.5,
        0.5,
        2.5,
    ]
    assert [record["contributions"] for record in records(result.anomalies)] == [{"f0": 2.5}] * 5


@pytest.fixture
def quotient_package(build: Callable[..., bytes], pack: Pack) -> ModelPackage:
    """Scores 1/a; its contributions are 1/(a-1), not finite where a is 1."""
    model = build(
        [
            helper.make_node("Reciprocal", ["x"], ["y"]),
            helper.make_node("Sub", ["x", "unit"], ["less"]),
            helper.make_node("Reciprocal", ["less"], ["parts"]),
        ],
        inputs={"x": (TensorProto.FLOAT, ["batch", 1])},
        outputs=["y", "parts"],
        constants={"unit": np.ones(1, np.float32)},
    )
    return load_package(pack(model, 1, contributions={"output": "parts"}, threshold=0.3))


def run_quotients(package: ModelPackage, batch_of: Batches, *numbers: bytes) -> BatchResult:
    values = [b'{"device":"d","time":0,"readings":[%b]}' % number for number in numbers]
    return pipeline(package).process(batch_of(values), now_ms=NOW)


def test_a_score_that_is_not_finite_is_a_dead_letter_and_no_anomaly(
    quotient_package: ModelPackage, batch_of: Batches
) -> None:
    result = run_quotients(quotient_package, batch_of, b"2", b"0", b"4", b"-0.0")
    assert [(letter.index, letter.reason, letter.detail) for letter in result.rejections] == [
        (1, "model-output", "the score is inf"),
        (3, "model-output", "the score is -inf"),
    ]
    assert [record["score"] for record in records(result.scored)] == [0.5, 0.25]
    assert offsets(result.anomalies) == [100]


def test_contributions_that_are_not_finite_are_null_and_the_anomaly_stays(
    quotient_package: ModelPackage, batch_of: Batches
) -> None:
    result = run_quotients(quotient_package, batch_of, b"1", b"2")
    assert [record["contributions"] for record in records(result.anomalies)] == [None, {"f0": 1.0}]


def test_an_event_is_an_anomaly_only_above_the_threshold(
    quotient_package: ModelPackage, batch_of: Batches
) -> None:
    at_threshold = replace(quotient_package, manifest=replace(quotient_package.manifest, threshold=0.5))
    result = run_quotients(at_threshold, batch_of, b"2", b"1.999")
    assert [record["anomaly"] for record in records(result.scored)] == [False, True]


def test_readings_are_recorded_as_they_came_and_not_as_they_were_scaled(
    build: Callable[..., bytes], pack: Pack, batch_of: Batches
) -> None:
    model = build(
        [helper.make_node("Identity", ["x"], ["y"])], inputs={"x": (TensorProto.FLOAT16, ["batch", 1])}
    )
    tensor = {
        "name": "x",
        "dtype": "float16",
        "shape": ["batch", 1],
        "scaling": {"mean": 101_000, "std": 130},
    }
    package = load_package(pack(model, 1, input=tensor))
    result = pipeline(package).process(batch_of([b'{"device":"d","time":0,"readings":[101325]}']), now_ms=NOW)
    (record,) = records(result.anomalies)
    assert (record["readings"], record["score"]) == ({"f0": 101_325}, 2.5)
