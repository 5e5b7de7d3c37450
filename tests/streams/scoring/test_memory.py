"""What is kept of devices: equal to a plain model of one event after the other, however the log is cut."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from farshore.streams.packages.loader import ModelPackage, load_package
from farshore.streams.packages.writer import write_package
from farshore.streams.scoring.pipeline import EventPipeline
from farshore.streams.transport.batch import PartitionBatch

from ..conftest import build_model, describe

NOW = 1_700_000_000_000
FEATURES = 2
THRESHOLD = 4.0


def make_package(folder: object, window: int, *, by_feature: bool = False) -> ModelPackage:
    """Scores a weighted sum of the window plus 1/f0 of its newest reading, which 0 makes infinite."""
    count = window * FEATURES
    weights = np.arange(1, count + 1, dtype=np.float32)[:, None]
    if by_feature:
        weights = weights.reshape(window, FEATURES).T.reshape(count, 1).copy()
    newest = (window - 1) if by_feature else (window - 1) * FEATURES
    model = build_model(
        [
            helper.make_node("MatMul", ["x", "weights"], ["sum"]),
            helper.make_node("Gather", ["x", "newest"], ["f0"], axis=1),
            helper.make_node("Reciprocal", ["f0"], ["rare"]),
            helper.make_node("Add", ["sum", "rare"], ["y"]),
        ],
        inputs={"x": (TensorProto.FLOAT, ["batch", count])},
        constants={"weights": weights, "newest": np.array([newest], np.int64)},
    )
    tensor = {
        "name": "x",
        "dtype": "float32",
        "shape": ["batch", count],
        "window_layout": "by-feature" if by_feature else "by-reading",
    }
    document = describe(FEATURES, input=tensor, threshold=THRESHOLD, window=window, window_horizon=1_000)
    return load_package(write_package(folder, model, document))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, bool], ModelPackage]:
    folder = tmp_path_factory.mktemp("windowed")
    return {
        (window, by_feature): make_package(folder / f"{window}-{by_feature}", window, by_feature=by_feature)
        for window, by_feature in ((1, False), (3, False), (3, True))
    }


def following(
    package: ModelPackage, horizon: int, *, median_of: int = 1, rest_seconds: float = 0.0
) -> ModelPackage:
    changed = replace(
        package.manifest, window_horizon=horizon, median_of=median_of, rest_seconds=rest_seconds
    )
    return replace(package, manifest=changed)


@dataclass(frozen=True)
class Event:
    """One record of the log; without readings it is no event at all."""

    offset: int
    device: str
    time_ms: int
    readings: tuple[float, float] | None

    @property
    def value(self) -> bytes:
        if self.readings is None:
            return b"{"
        document = {"device": self.device, "time": self.time_ms, "readings": list(self.readings)}
        return json.dumps(document).encode()


Found = dict[int, tuple[float, bool]]
"""Offset to score and anomaly."""


def plain_model(package: ModelPackage, log: Sequence[Event]) -> Found:
    """The definition, one event after the other, with the whole log at hand."""
    manifest = package.manifest
    lookback = manifest.lookback_offsets or 1
    of_device: dict[str, list[Event]] = defaultdict(list)
    raw: dict[int, float] = {}
    alarms: dict[str, Event] = {}
    found: Found = {}
    for event in log:
        if event.readings is None:
            continue
        of_device[event.device].append(event)
        near = [other for other in of_device[event.device] if other.offset > event.offset - lookback]
        window = near[-manifest.window :]
        window = [window[0]] * (manifest.window - len(window)) + window
        row = np.array([other.readings for other in window], np.float32)
        row = row.T if manifest.input.by_feature else row
        raw[event.offset] = float(package.scorer.score(row.reshape(1, -1)).scores[0])
        if not math.isfinite(raw[event.offset]):
            continue
        scores = [raw[other.offset] for other in near[-manifest.median_of :]]
        score = float(np.median([number for number in scores if math.isfinite(number)]))
        above = score > manifest.threshold
        last = alarms.get(event.device)
        if above and manifest.rest_seconds and last is not None:
            same_stretch = last.offset // lookback == event.offset // lookback
            above = not (same_stretch and abs(event.time_ms - last.time_ms) < manifest.rest_seconds * 1000)
        if above:
            alarms[event.device] = event
        found[event.offset] = (score, above)
    return found


def batch_of(events: Sequence[Event], *, live_from: int = 0) -> PartitionBatch:
    return PartitionBatch(
        topic="events",
        partition=0,
        next_offset=events[-1].offset + 1,
        offsets=[event.offset for event in events],
        timestamps_ms=[NOW] * len(events),
        keys=[event.device.encode() for event in events],
        values=[event.value for event in events],
        size_bytes=1,
        live_from=live_from,
    )


def new_pipeline(package: ModelPackage, rows_max: int = 256) -> EventPipeline:
    return EventPipeline(package, site="harbour", event_bytes_max=10_000, batch_rows_max=rows_max)


def run(pipeline: EventPipeline, log: Sequence[Event], cuts: Sequence[int], *, live_from: int = 0) -> Found:
    """The log through the pipeline in batches of the sizes `cuts`, repeated."""
    found: Found = {}
    start, turn = 0, 0
    while start < len(log):
        part = log[start : start + cuts[turn % len(cuts)]]
        result = pipeline.process(batch_of(part, live_from=live_from), now_ms=NOW)
        records = [json.loads(value or b"") for value in result.scored.values]
        for record in records:
            found[record["source"]["offset"]] = (record["score"], record["anomaly"])
        anomalies = [json.loads(value or b"") for value in result.anomalies.values]
        assert [record["source"] for record in anomalies] == [r["source"] for r in records if r["anomaly"]]
        assert all(record["score"] > record["threshold"] for record in anomalies)
        live = [event for event in part if event.offset >= live_from]
        assert len(result.scored) + len(result.dead_letters) == len(live)
        assert result.rebuilt == len(part) - len(live)
        start += len(part)
        turn += 1
    return found


@st.composite
def logs(draw: st.DrawFn) -> list[Event]:
    number = st.sampled_from([-2.0, -0.5, 0.0, 0.25, 1.0])
    step = st.tuples(
        st.integers(1, 4),  # offsets may have gaps
        st.sampled_from("abc"),
        st.integers(-3, 6),  # late, repeated and early times
        st.one_of(st.none(), st.tuples(number, number), st.tuples(number, number)),
    )
    log: list[Event] = []
    offset, time_ms = draw(st.integers(0, 50)), 1_000
    for gap, device, passed, readings in draw(st.lists(step, min_size=1, max_size=120)):
        offset, time_ms = offset + gap, time_ms + passed
        log.append(Event(offset, device, time_ms, readings))
    return log


KINDS = [(1, False), (3, False), (3, True)]
AFTER = [(1, 0.0), (3, 0.0), (1, 0.008), (4, 0.008)]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150, deadline=None)
@given(
    log=logs(),
    after=st.sampled_from(AFTER),
    share=st.integers(4, 24),
    cuts=st.lists(st.integers(1, 30), min_size=1, max_size=5),
    again=st.lists(st.integers(1, 30), min_size=1, max_size=5),
    rows_max=st.integers(1, 12),
    commit=st.floats(0, 1),
    earlier=st.integers(0, 9),
)
def test_scores_and_alarms_equal_a_plain_model_however_the_log_is_cut_and_from_wherever_it_is_read_again(
    packages: dict[tuple[int, bool], ModelPackage],
    kind: tuple[int, bool],
    log: list[Event],
    after: tuple[int, float],
    share: int,
    cuts: list[int],
    again: list[int],
    rows_max: int,
    commit: float,
    earlier: int,
) -> None:
    median_of, rest_seconds = after
    kept = (kind[0] > 1) + (median_of > 1) + (rest_seconds > 0)
    package = following(packages[kind], share * kept, median_of=median_of, rest_seconds=rest_seconds)
    expected = plain_model(package, log)
    assert run(new_pipeline(package, rows_max), log, cuts) == expected

    live_from = log[int(commit * (len(log) - 1))].offset
    begin = live_from - package.manifest.rewind_offsets - earlier
    read_again = [event for event in log if event.offset >= begin]
    recovered = run(new_pipeline(package), read_again, again, live_from=live_from)
    assert recovered == {offset: each for offset, each in expected.items() if offset >= live_from}
