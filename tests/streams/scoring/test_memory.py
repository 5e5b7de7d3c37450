"""What is kept of devices: equal to a plain model of one event after the other, however the log is cut."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from farshore.streams.packages.loader import ModelPackage, load_package
from farshore.streams.packages.writer import write_package
from farshore.streams.scoring.pipeline import EventPipeline
from farshore.streams.transport.batch import PartitionBatch

from ...plain_windows import Event, Found, plain_model
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


def expected_of(package: ModelPackage, log: Sequence[Event]) -> Found:
    """By the plain model, each window run by itself."""

    def score(window: np.ndarray) -> float:
        row = (window.T if package.manifest.input.by_feature else window).astype(np.float32)
        return float(package.scorer.score(row.reshape(1, -1)).scores[0])

    return plain_model(package.manifest, log, score)


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
@settings(max_examples=60, deadline=None)
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
    expected = expected_of(package, log)
    assert run(new_pipeline(package, rows_max), log, cuts) == expected

    live_from = log[int(commit * (len(log) - 1))].offset
    begin = live_from - package.manifest.rewind_offsets - earlier
    read_again = [event for event in log if event.offset >= begin]
    recovered = run(new_pipeline(package), read_again, again, live_from=live_from)
    assert recovered == {offset: each for offset, each in expected.items() if offset >= live_from}


def dense_log(seed: int, count: int = 900) -> list[Event]:
    """Four devices without a pause, some late, some bad, some whose score is not finite."""
    rng = np.random.default_rng(seed)
    offsets = np.cumsum(rng.integers(1, 3, count)).tolist()
    readings = rng.choice(
        [-1.0, -0.5, 0.0, 0.25, 0.5, 1.0], (count, FEATURES), p=[0.2, 0.2, 0.05, 0.2, 0.2, 0.15]
    )
    times = (10 * np.arange(count) + rng.integers(-60, 60, count) + 1_000).tolist()
    return [
        Event(offset, f"d{rng.integers(4)}", time_ms, None if rng.random() < 0.05 else tuple(row))
        for offset, time_ms, row in zip(offsets, times, readings.tolist(), strict=True)
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("after", [(1, 0.0), (5, 0.0), (1, 0.1), (5, 0.1)])
def test_reading_again_from_the_horizon_restores_everything_and_from_nearer_it_would_not(
    packages: dict[tuple[int, bool], ModelPackage], kind: tuple[int, bool], after: tuple[int, float]
) -> None:
    median_of, rest_seconds = after
    kept = (kind[0] > 1) + (median_of > 1) + (rest_seconds > 0)
    package = following(packages[kind], 30 * kept, median_of=median_of, rest_seconds=rest_seconds)
    log = dense_log(seed=3)
    expected = expected_of(package, log)
    for rows_max, cuts in ((1, [1]), (32, [32]), (256, [7, 256, 1]), (1_024, [1_024])):
        assert run(new_pipeline(package, rows_max), log, cuts) == expected

    missed = 0
    for event in log[200::23]:
        due = {offset: each for offset, each in expected.items() if offset >= event.offset}

        def recovered(rewind_offsets: int, first: Event = event) -> Found:
            begin = first.offset - rewind_offsets
            again = [other for other in log if other.offset >= begin][:150]
            return run(new_pipeline(package), again, [50], live_from=first.offset)

        found = recovered(package.manifest.rewind_offsets)
        assert found == {offset: due[offset] for offset in found}
        near = recovered(rewind_offsets=5)
        missed += near != {offset: due[offset] for offset in near}
    # Or this test could not tell.
    assert (missed > 0) == (kept > 0)


def only(package: ModelPackage, *log: Event) -> Found:
    return run(new_pipeline(package), log, [len(log)])


ONE, LOW = (1.0, 0.0), (-1.0, 0.0)


def test_a_window_that_is_not_full_repeats_its_oldest_reading_and_is_counted(
    packages: dict[tuple[int, bool], ModelPackage],
) -> None:
    package = following(packages[3, False], 100)
    log = [Event(offset, "a", offset, (offset + 1.0, 2.0)) for offset in range(4)]
    result = new_pipeline(package).process(batch_of(log), now_ms=NOW)
    scores = [json.loads(value or b"")["score"] for value in result.scored.values]
    # Weights 1 to 6, oldest reading first, and one over the newest f0.
    weigh = np.array([1, 3, 5])
    expected = [weigh @ f0 + 2.0 * 12 + 1 / f0[-1] for f0 in ([1, 1, 1], [1, 1, 2], [1, 2, 3], [2, 3, 4])]
    assert scores == np.array(expected, np.float32).astype(np.float64).tolist()
    assert result.windows_cold == 2


def test_a_late_event_is_the_newest_reading_and_a_repeated_one_a_reading_of_its_own(
    packages: dict[tuple[int, bool], ModelPackage],
) -> None:
    package = following(packages[3, False], 100)
    readings = [(1.0, 0.0), (2.0, 0.0), (2.0, 0.0), (4.0, 0.0)]
    in_order = [Event(offset, "a", 10 * offset, row) for offset, row in enumerate(readings)]
    late = [replace(event, time_ms=time_ms) for event, time_ms in zip(in_order, (0, 20, 20, 5), strict=True)]
    # By time the last one would stand second, and of the two at time 20 one might be left out.
    assert only(package, *late) == only(package, *in_order)
    assert only(package, *late)[3][0] == 1 * 2 + 3 * 2 + 5 * 4 + 0.25


def test_a_dead_letter_is_no_reading_but_one_whose_score_is_not_finite_is(
    packages: dict[tuple[int, bool], ModelPackage],
) -> None:
    package = following(packages[3, False], 100)
    good = [Event(offset, "a", offset, (2.0, 1.0)) for offset in (0, 2, 4)]
    bad = Event(1, "a", 1, None)
    assert only(package, good[0], bad, *good[1:]) == only(package, *good)
    infinite = Event(3, "a", 3, (0.0, 0.0))
    found = only(package, *good[:2], infinite, good[2])
    assert sorted(found) == [0, 2, 4]
    assert found[4][0] == 1 * 2 + 2 * 1 + 5 * 2 + 6 * 1 + 0.5


def test_one_score_that_is_not_finite_leaves_the_median_to_the_others(
    packages: dict[tuple[int, bool], ModelPackage],
) -> None:
    package = following(packages[1, False], 100, median_of=3)
    rows = [(1.0, 0.0), (0.0, 1.0), (1.0, 4.0), (1.0, 1.0)]
    found = only(package, *[Event(offset, "a", offset, row) for offset, row in enumerate(rows)])
    # The model's scores are 2, infinity, 10 and 4.
    assert {offset: score for offset, (score, _) in found.items()} == {0: 2.0, 2: 6.0, 3: 7.0}


def resting(package: ModelPackage, *times_ms: int, first_offset: int = 0) -> list[bool]:
    """Which events at these times, all above the threshold, are anomalies."""
    log = [Event(first_offset + number, "a", time_ms, (4.0, 4.0)) for number, time_ms in enumerate(times_ms)]
    return [anomaly for _, anomaly in only(package, *log).values()]


def test_after_an_anomaly_a_device_rests_by_event_time_late_events_included(
    packages: dict[tuple[int, bool], ModelPackage],
) -> None:
    package = following(packages[1, False], 1_000, rest_seconds=1.0)
    assert resting(package, 5_000, 5_999, 6_000, 6_500, 7_000) == [True, False, True, False, True]
    assert resting(package, 5_000, 4_001, 5_000, 4_000, 5_500) == [True, False, False, True, True]


def test_a_clock_that_was_wrong_once_silences_nothing(
    packages: dict[tuple[int, bool], ModelPackage],
) -> None:
    package = following(packages[1, False], 1_000, rest_seconds=60.0)
    assert resting(package, 1_000_000, 4_000_000_000_000, 1_001_000, 1_002_000) == [True, True, True, False]


def test_a_rest_ends_where_a_new_stretch_of_offsets_begins_and_is_counted(
    packages: dict[tuple[int, bool], ModelPackage],
) -> None:
    package = following(packages[1, False], 10, rest_seconds=60.0)
    assert (
        resting(package, *range(1_000, 1_008), first_offset=6) == [True] + [False] * 3 + [True] + [False] * 3
    )
    log = [Event(offset, "ab"[offset % 2], 1_000, (4.0, 4.0)) for offset in range(8)]
    assert new_pipeline(package).process(batch_of(log), now_ms=NOW).alarms_rested == 6


def test_who_clears_one_devices_window_changes_its_scores_and_nobody_elses(
    packages: dict[tuple[int, bool], ModelPackage],
) -> None:
    package = following(packages[3, False], 200)
    log = [event for event in dense_log(seed=5, count=200) if event.readings]
    whole = run(new_pipeline(package), log, [20])
    cut = log[100].offset
    without = [event for event in log if event.offset >= cut or event.device != "d1"]
    cleared = run(new_pipeline(package), without, [20])
    device = {event.offset: event.device for event in log}
    changed = {device[offset] for offset in cleared if cleared[offset] != whole[offset]}
    assert changed == {"d1"}


def test_a_partition_that_is_read_again_or_forgotten_begins_with_an_empty_memory(
    packages: dict[tuple[int, bool], ModelPackage],
) -> None:
    package = following(packages[3, False], 200)
    log = dense_log(seed=6, count=100)
    pipeline = new_pipeline(package)
    first = run(pipeline, log, [30])
    assert run(pipeline, log, [7]) == first
    assert pipeline.memory_bytes > 0
    pipeline.forget_devices()
    assert pipeline.memory_bytes == 0
    assert run(pipeline, log, [11]) == first
