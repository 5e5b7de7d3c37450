"""Whatever bytes arrive, a batch of them comes to an end: each is scored or set aside, untouched.

FUZZ_EXAMPLES sets how many batches are tried (`make fuzz`). tests/integration/test_fuzz.py does the same to a
real worker, with other bytes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from farshore.schemas.manifest import Manifest, load_schema
from farshore.streams.packages.loader import ModelPackage
from farshore.streams.scoring.decoding import EventDecoder
from farshore.streams.scoring.pipeline import EventPipeline
from farshore.streams.transport.batch import PartitionBatch

from ...fuzz_bytes import FuzzedRecords, corpus_values

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "60"))
LIMIT = 20_000
DETAIL_MAX = 400

EVENT = '{"device":%s,"time":%s,"readings":{"temperature":%s,"pressure":%s,"vibration":%s}}'
FEATURES = ("temperature", "pressure", "vibration")

number = st.one_of(
    st.integers(), st.floats(), st.sampled_from([2**63, -(2**63) - 1, 2**64, 1e39, -3.4028236e38, 5e-324])
).map(json.dumps)
document = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.one_of(st.sampled_from(["device", "time", "readings", *FEATURES]), st.text(max_size=8)),
            inner,
            max_size=5,
        ),
    ),
    max_leaves=12,
).map(json.dumps)
"""JSON of any shape; `json` writes NaN and lone surrogates too."""

member = st.one_of(number, document, st.sampled_from(['"d"', "1700000000000", '"2023-07-22T04:26:40Z"']))
odd_event = st.tuples(member, member, member, member, member).map(lambda members: EVENT % members)
near_event = st.tuples(st.just('"d"'), st.just("1700000000000"), number, number, member).map(
    lambda members: EVENT % members
)
fuzzed = st.integers(0, 2**32).map(lambda seed: FuzzedRecords(seed).one()[1])
kept = st.sampled_from(list(corpus_values().values()))


@st.composite
def changed(draw: st.DrawFn) -> bytes:
    """A valid event with some bytes replaced by others, fewer or more."""
    value = bytearray((EVENT % ('"d"', "1700000000000", "20", "3", "0.5")).encode())
    for at, size, piece in draw(
        st.lists(st.tuples(st.integers(0, 100), st.integers(0, 4), st.binary(max_size=4)), max_size=4)
    ):
        value[at : at + size] = piece
    return bytes(value)


value = st.one_of(
    st.none(),
    st.binary(max_size=60),
    document.map(str.encode),
    odd_event.map(str.encode),
    near_event.map(str.encode),
    changed(),
    fuzzed,
    kept,
)
key = st.one_of(st.none(), st.binary(max_size=8))
batches = st.lists(st.tuples(key, value), min_size=1, max_size=40)
fuzzing = settings(
    max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example]
)


@fuzzing
@example([(None, value) for value in corpus_values().values()])
@given(batches)
def test_of_any_bytes_each_is_scored_or_a_dead_letter_with_its_own_bytes(
    sample: ModelPackage, records: list[tuple[bytes | None, bytes | None]]
) -> None:
    keys, values = [key for key, _ in records], [value for _, value in records]
    positions = list(range(len(records)))
    batch = PartitionBatch("events", 1, len(records), positions, positions, keys, values, 0)
    pipeline = EventPipeline(sample, site="harbour", event_bytes_max=LIMIT, batch_rows_max=7)
    result = pipeline.process(batch, now_ms=1_700_000_000_000)

    validator = Draft202012Validator(load_schema("scored"))
    outcomes = []
    for scored_key, scored in zip(result.scored.keys, result.scored.values, strict=True):
        record = json.loads(scored or b"", parse_constant=pytest.fail)
        validator.validate(record)
        outcomes.append(record["source"]["offset"])
        assert scored_key == keys[outcomes[-1]]
    anomalies = Draft202012Validator(load_schema("anomaly"))
    for anomaly in result.anomalies.values:
        anomalies.validate(json.loads(anomaly or b"", parse_constant=pytest.fail))
    letters = result.dead_letters
    for letter_key, letter, headers in zip(letters.keys, letters.values, letters.headers, strict=True):
        told = {name: text.decode() for name, text in headers}
        outcomes.append(int(told["offset"]))
        assert (letter_key, letter) == records[outcomes[-1]]
        assert told["reason"]
        assert len(told["detail"]) <= DETAIL_MAX
    assert sorted(outcomes) == positions


LAYOUTS: dict[str, dict[str, object]] = {
    "device from the key": {"event": {"device": {"from": "record-key"}}},
    "features by their places": {
        "event": {"features": {name: f"/readings/{name}" for name in FEATURES}, "time": "/time"},
    },
    "whole numbers": {"input": {"name": "x", "dtype": "int64", "shape": ["batch", 3]}},
    "doubles": {"input": {"name": "x", "dtype": "float64", "shape": ["batch", 3]}},
    "halves": {"input": {"name": "x", "dtype": "float16", "shape": ["batch", 3]}},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@fuzzing
@example([(None, value) for value in corpus_values().values()])
@given(records=batches)
def test_in_every_layout_any_bytes_are_accepted_or_refused_with_a_reason(
    manifest_of: Callable[..., Manifest], layout: str, records: list[tuple[bytes | None, bytes | None]]
) -> None:
    decoder = EventDecoder(manifest_of(**LAYOUTS[layout]), event_bytes_max=LIMIT)
    decoded = decoder.decode([value for _, value in records], [key for key, _ in records])
    refused = [rejection.index for rejection in decoded.rejections]
    assert sorted([*decoded.indices, *refused]) == list(range(len(records)))
    assert len(decoded.devices) == len(decoded.times_ms) == len(decoded.matrix) == len(decoded.indices)
    assert all(0 < len(rejection.detail) <= DETAIL_MAX for rejection in decoded.rejections)
