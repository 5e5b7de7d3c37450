"""What a manifest says, its defaults, and every way of being none."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from farshore.schemas.manifest import EventMapping, ManifestError, SeverityLevel, parse_manifest
from farshore.schemas.severity import Severity

MINIMAL: dict[str, Any] = {
    "format": 1,
    "name": "pump",
    "version": "2024.06-rc1",
    "model_sha256": "ab" * 32,
    "features": ["temperature", "pressure"],
    "input": {"name": "x", "dtype": "float32", "shape": ["batch", 2]},
    "score": {"output": "y", "rule": "column"},
    "threshold": 3,
}

Change = Callable[[dict[str, Any]], object]


def changed(change: Change) -> dict[str, Any]:
    document = copy.deepcopy(MINIMAL)
    change(document)
    return document


def put(path: str, value: object) -> Change:
    """Sets the member at `path`, such as "input.scaling", on the way making objects that are absent."""

    def change(document: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        for name in parents:
            document = document.setdefault(name, {})
        document[last] = value

    return change


def test_a_minimal_manifest_has_the_default_layout_and_scores_each_event_by_itself() -> None:
    manifest = parse_manifest(MINIMAL)
    assert manifest.label == "pump@2024.06-rc1"
    assert manifest.event == EventMapping("/device", "/time", "ms", "/readings")
    assert (manifest.window, manifest.window_horizon, manifest.median_of, manifest.rest_seconds) == (
        1,
        0,
        1,
        0,
    )
    assert (manifest.input.shape, manifest.input.mean, manifest.input.std) == ((2,), None, None)
    assert (manifest.score.column, manifest.contributions_output) == (0, None)


def test_without_levels_every_anomaly_is_medium() -> None:
    assert parse_manifest(MINIMAL).severity == (SeverityLevel(Severity.MEDIUM, 3.0),)


def test_everything_that_can_be_said_is_read() -> None:
    def change(document: dict[str, Any]) -> None:
        document["event"] = {
            "device": {"from": "record-key"},
            "time": "/meta/ts",
            "time_unit": "ns",
            "features": {"pressure": "/b/1", "temperature": "/a~1b"},
        }
        document["window"] = 20
        document["window_horizon"] = 5_000
        document["input"] |= {
            "shape": ["batch", 2, 20],
            "window_layout": "by-feature",
            "scaling": {"mean": [1, 2.5], "std": 4},
        }
        document["score"] = {"output": "y", "rule": "column", "column": 7}
        document["contributions"] = {"output": "parts"}
        document["severity"] = [{"level": "low", "score_min": 1}, {"level": "critical", "score_min": 9}]
        document["after"] = {"median_of": 5, "rest_seconds": 1.5}
        document["provenance"] = {"run": 17}

    manifest = parse_manifest(changed(change))
    # In feature order, whatever the order in the JSON.
    assert manifest.event == EventMapping(None, "/meta/ts", "ns", ("/a~1b", "/b/1"))
    assert (manifest.window, manifest.window_horizon) == (20, 5_000)
    assert (manifest.input.shape, manifest.input.mean, manifest.input.std) == (
        (2, 20),
        (1.0, 2.5),
        (4.0, 4.0),
    )
    assert manifest.input.by_feature
    assert (manifest.lookback_offsets, manifest.rewind_offsets) == (1_666, 5_000)
    assert (manifest.score.column, manifest.contributions_output) == (7, "parts")
    assert manifest.severity == (SeverityLevel(Severity.LOW, 1.0), SeverityLevel(Severity.CRITICAL, 9.0))
    assert (manifest.median_of, manifest.rest_seconds) == (5, 1.5)
    assert manifest.provenance == {"run": 17}


def test_null_contributions_are_none() -> None:
    assert parse_manifest(MINIMAL | {"contributions": None}).contributions_output is None


def test_whole_numbers_spelt_as_floats_are_whole_numbers() -> None:
    manifest = parse_manifest(changed(put("score.column", 1.0)) | {"window": 1.0})
    assert manifest.rewind_offsets == 0
    assert isinstance(manifest.score.column, int)
    assert isinstance(manifest.window, int)


@pytest.mark.parametrize("document", [None, [], "manifest", 3, True])
def test_a_manifest_is_an_object(document: object) -> None:
    with pytest.raises(ManifestError, match=r"at \$: .* is not of type 'object'"):
        parse_manifest(document)


@pytest.mark.parametrize("name", sorted(MINIMAL))
def test_what_is_required_is_asked_for_by_name(name: str) -> None:
    document = {key: value for key, value in MINIMAL.items() if key != name}
    with pytest.raises(ManifestError, match=f"'{name}' is a required property"):
        parse_manifest(document)


NUMBER_OF_400_DIGITS = 10**399

REFUSED: list[tuple[Change, str]] = [
    (put("format", 2), r"\$\.format: 1 was expected"),
    (put("name", "Pump"), r"\$\.name: 'Pump' does not match"),
    (put("name", "a@b"), r"\$\.name"),
    (put("name", "pump\n"), r"\$\.name: 'pump\\n' ends with a line break"),
    (put("version", "1\n"), r"\$\.version: '1\\n' ends with a line break"),
    (put("version", ""), r"\$\.version"),
    (put("model_sha256", "AB" * 32), r"\$\.model_sha256"),
    (put("features", []), r"\$\.features"),
    (put("features", ["a", "a"]), r"\$\.features: \['a', 'a'\] has non-unique elements"),
    (put("features", ["a", 1]), r"\$\.features\[1\]: 1 is not of type 'string'"),
    (put("features", ["a", "\ud800"]), r"\$\.features\[1\]: '\\ud800' is no Unicode text"),
    (put("event", {"device": "/a/\ud800"}), r"\$\.event\.device: '/a/\\ud800' is no Unicode text"),
    (
        put("event", {"features": {"a": "/\udfff", "b": "/b"}}),
        r"\$\.event\.features\.'a': '/\\udfff' is no Unicode text",
    ),
    (put("surprise", 1), r"\$: .*'surprise' was unexpected"),
    (put("input.dtype", "bfloat16"), r"\$\.input\.dtype: 'bfloat16' is not one of \['float16'"),
    (put("input.shape", [2]), r'\$\.input\.shape: \[2\] must start with "batch" and name it once'),
    (put("input.shape", ["batch", "batch"]), r"must start with \"batch\" and name it once"),
    (put("input.shape", ["batch"]), r"\['batch'\] holds 1 values a row, but \$\.features names 2"),
    (put("input.shape", ["batch", 3]), r"holds 3 values a row, but \$\.features names 2"),
    (put("input.shape", ["batch", 0]), r"\$\.input\.shape\[1\]"),
    (put("input.shape", ["batch", "N"]), r"\$\.input\.shape\[1\]"),
    (put("input.scaling", {"mean": 1}), r"\$\.input\.scaling: 'std' is a required property"),
    (put("input.scaling", {"mean": [1, 2, 3], "std": 1}), r"mean: 3 values for 2 features; give one number"),
    (put("input.scaling", {"mean": 0, "std": [1, 0]}), r"std: 0 is no spread; use 1 for a constant"),
    (put("input.scaling", {"mean": 0, "std": -1}), r"std: -1 is no spread"),
    (put("input.scaling", {"mean": float("inf"), "std": 1}), r"mean: inf is not a finite number"),
    (put("score.rule", "mean"), r"\$\.score\.rule: 'mean' is not one of \['column', 'max'"),
    (put("score.column", -1), r"\$\.score\.column"),
    (put("score.column", True), r"\$\.score\.column"),
    (put("contributions", {"output": ""}), r"\$\.contributions"),
    (put("threshold", "3"), r"\$\.threshold: '3' is not of type 'number'"),
    (put("threshold", True), r"\$\.threshold: True is not of type 'number'"),
    (put("threshold", float("nan")), r"\$\.threshold: nan is not a finite number"),
    (put("threshold", float("inf")), r"\$\.threshold: inf is not a finite number"),
    (put("threshold", NUMBER_OF_400_DIGITS), r"\$\.threshold: the number is too large"),
    (put("event.time", "time"), r"\$\.event\.time: 'time' does not match"),
    (put("event.time", "/a~2"), r"\$\.event\.time"),
    (put("event.time_unit", "min"), r"\$\.event\.time_unit: 'min' is not one of \['s', 'ms'"),
    (put("event.device", {"from": "header"}), r"\$\.event\.device"),
    (put("event.features", {"temperature": "/t"}), r"missing \['pressure'\], unknown \[\]"),
    (
        put("event.features", {"temperature": "/t", "pressure": "/p", "flow": "/f"}),
        r"\$\.event\.features: must name exactly \$\.features; missing \[\], unknown \['flow'\]",
    ),
    (put("window", 0), r"\$\.window"),
    (put("window", 4_097), r"\$\.window: 4097 is greater than the maximum"),
    (put("window", 3), r"holds 2 values a row, but \$\.features names 2 in each of \$\.window's 3 readings"),
    (put("window_horizon", -1), r"\$\.window_horizon"),
    (put("window_horizon", 20_000_000), r"\$\.window_horizon: 20000000 is greater than the maximum"),
    (put("after.median_of", 5), r"\$\.window_horizon: 0 is too short for a median of 5; at least 5 offsets"),
    (
        put("after.rest_seconds", 9),
        r"\$\.window_horizon: 0 is too short for a rest of 9 s",
    ),
    (put("input.window_layout", "newest-first"), r"\$\.input\.window_layout: 'newest-first' is not one of"),
    (put("after.median_of", 0), r"\$\.after\.median_of"),
    (put("after.rest_seconds", -0.5), r"\$\.after\.rest_seconds"),
    (put("after.rest_seconds", float("inf")), r"\$\.after\.rest_seconds: inf is greater than the maximum"),
    (put("severity", [{"level": "urgent", "score_min": 1}]), r"\$\.severity\[0\]\.level: 'urgent' is not"),
    (put("severity", [{"level": "low"}]), r"'score_min' is a required property"),
    (
        put("severity", [{"level": "high", "score_min": 1}, {"level": "low", "score_min": 2}]),
        "levels must rise, each once, with rising score_min",
    ),
    (
        put("severity", [{"level": "low", "score_min": 2}, {"level": "high", "score_min": 2}]),
        "levels must rise, each once, with rising score_min",
    ),
    (
        put("severity", [{"level": "low", "score_min": 1}, {"level": "low", "score_min": 2}]),
        "levels must rise, each once, with rising score_min",
    ),
    (
        put("severity", [{"level": "high", "score_min": 3.5}]),
        r"severity\[0\]\.score_min: 3\.5 is above the threshold 3\.0, so anomalies between them",
    ),
]


@pytest.mark.parametrize(("change", "says"), REFUSED, ids=[says for _, says in REFUSED])
def test_a_mistake_is_refused_with_its_place_on_one_line(change: Change, says: str) -> None:
    with pytest.raises(ManifestError, match=says) as caught:
        parse_manifest(changed(change))
    message = str(caught.value)
    assert message.startswith("manifest.json at $")
    assert "\n" not in message


def test_window_median_and_rest_share_the_horizon_and_each_must_fit_its_share() -> None:
    def change(document: dict[str, Any]) -> None:
        document["input"]["shape"] = ["batch", 20, 2]
        document["after"] = {"median_of": 5, "rest_seconds": 60}

    document = changed(change) | {"window": 20}
    assert parse_manifest(document | {"window_horizon": 60}).lookback_offsets == 20
    with pytest.raises(ManifestError, match="too short for a window of 20 and a median of 5 and a rest"):
        parse_manifest(document | {"window_horizon": 59})


def test_a_refusal_stays_short_however_many_features_there_are() -> None:
    names = [f"sensor {index}" for index in range(20_000)]
    with pytest.raises(ManifestError, match="has non-unique elements") as caught:
        parse_manifest(MINIMAL | {"features": [*names, "sensor 0"]})
    assert len(str(caught.value)) < 500


def test_a_threshold_that_a_json_reader_takes_for_infinity_is_refused() -> None:
    document = json.loads(json.dumps(MINIMAL).replace('"threshold": 3', '"threshold": 1e999'))
    with pytest.raises(ManifestError, match="not a finite number"):
        parse_manifest(document)
