"""`farshore model inspect`: what it shows of a good package, and the one line for one that is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from farshore.agents.commands.model import model_app
from farshore.local.sample import write_sample_package
from farshore.local.windowed_sample import write_windowed_package

FEATURES = ("Volume Flow RateRMS", "[bold]bracketed[/bold]", "line\nbreak")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = np.random.default_rng(1).normal(size=(200, 3))
    event = {"device": {"from": "record-key"}, "time": "/datetime", "time_unit": "s", "features": ""}
    return write_sample_package(tmp_path / "package", rows, FEATURES, name="valve", version="3", event=event)


def lines(output: str) -> dict[str, str]:
    """The shown lines by label; a label that stands on several lines keeps the last."""
    return {line[:15].strip(): line[15:] for line in output.splitlines()}


def test_inspect_shows_what_the_package_says_one_line_a_subject(folder: Path) -> None:
    result = CliRunner().invoke(model_app, ["inspect", str(folder)])
    assert result.exit_code == 0
    shown = lines(result.stdout)
    digest = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    assert shown["model"] == "valve@3"
    assert shown["digest"] == f"sha256:{digest}"
    assert shown["input"] == "x float32 [batch, 3]"
    assert shown["score"] == "column 0 of score"
    assert shown["contributions"] == "contributions"
    assert (
        shown["event"] == "device the record's key, time /datetime (s or RFC 3339), features the whole value"
    )
    assert shown["severity"].startswith("low from ")
    assert shown["trial run"].endswith("scores are bit-equal over batch sizes")
    assert shown["graph input"] == "x float32 [batch, 3]"
    assert shown["graph output"] == "contributions float32 [batch, 3]"


def test_inspect_shows_what_is_kept_of_devices_and_what_it_costs(tmp_path: Path, folder: Path) -> None:
    recording = np.random.default_rng(1).normal(size=(300, 3))
    windowed = write_windowed_package(
        tmp_path / "windowed", [recording], FEATURES, window=20, window_horizon=30_000, median_of=5
    )
    shown = lines(CliRunner().invoke(model_app, ["inspect", str(windowed)]).stdout)
    assert shown["window"] == "a device's last 20 readings, reading by reading, from the oldest on"
    assert shown["horizon"] == (
        "30000 offsets are read again at an assignment; each thing kept of a device looks back 15000; "
        "at most 0.75 MB of readings and scores a partition"
    )
    assert shown["median"] == "of a device's last 5 scores"
    assert shown["rest"] == "none"
    assert shown["input"] == "x float32 [batch, 60], scaled by the manifest"
    document = json.loads(CliRunner().invoke(model_app, ["inspect", "--json", str(windowed)]).stdout)
    assert (document["window"], document["window_horizon"], document["lookback_offsets"]) == (
        20,
        30_000,
        15_000,
    )
    assert document["after"] == {"median_of": 5, "rest_seconds": 0}

    plain = lines(CliRunner().invoke(model_app, ["inspect", str(folder)]).stdout)
    assert plain["window"] == "none: each event by itself"
    assert "horizon" not in plain


def test_feature_names_are_shown_as_they_are_and_never_break_a_line(folder: Path) -> None:
    shown = lines(CliRunner().invoke(model_app, ["inspect", str(folder)]).stdout)
    assert shown["features"] == r"3: Volume Flow RateRMS, [bold]bracketed[/bold], 'line\nbreak'"


def test_a_long_list_of_features_is_cut_on_the_screen_and_whole_in_json(tmp_path: Path) -> None:
    names = [f"f{index}" for index in range(40)]
    rows = np.random.default_rng(1).normal(size=(100, 40))
    folder = write_sample_package(tmp_path / "package", rows, names)
    assert lines(CliRunner().invoke(model_app, ["inspect", str(folder)]).stdout)["features"].endswith(
        "f23 and 16 more"
    )
    result = CliRunner().invoke(model_app, ["inspect", str(folder), "--json"])
    assert json.loads(result.stdout)["features"] == names


def test_json_is_one_object_with_the_trial_and_the_graph(folder: Path) -> None:
    result = CliRunner().invoke(model_app, ["inspect", str(folder), "--json"])
    assert result.exit_code == 0
    shown = json.loads(result.stdout)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    assert (shown["name"], shown["version"], shown["features"]) == ("valve", "3", list(FEATURES))
    assert shown["event"] == manifest["event"]
    assert shown["threshold"] == manifest["threshold"]
    assert list(shown["severity"]) == ["low", "medium", "high", "critical"]
    assert shown["score"] == {"output": "score", "rule": "column", "column": 0}
    assert shown["trial"]["bit_equal"] is True
    assert shown["graph"] == {
        "inputs": [{"name": "x", "dtype": "float32", "shape": ["batch", 3]}],
        "outputs": [
            {"name": "score", "dtype": "float32", "shape": ["batch", 1]},
            {"name": "contributions", "dtype": "float32", "shape": ["batch", 3]},
        ],
    }


def test_a_refused_package_is_one_line_on_stderr_and_exit_1(folder: Path) -> None:
    (folder / "model.onnx").unlink()
    result = CliRunner().invoke(model_app, ["inspect", str(folder)])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"farshore: {folder / 'model.onnx'} is missing\n"


def test_without_a_folder_the_usage_is_wrong() -> None:
    assert CliRunner().invoke(model_app, ["inspect"]).exit_code == 2
