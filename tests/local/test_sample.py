"""The sample package: what its graph computes, what it alarms on, and what its fit refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from farshore.local.sample import fit_sample, write_sample_package
from farshore.streams.packages.loader import load_package
from farshore.streams.scoring.scorer import severity_of

FEATURES = ("temperature", "pressure", "vibration", "Volume Flow RateRMS", "current/phase~1")


def machine_rows(count: int, *, seed: int = 1, features: int = len(FEATURES)) -> np.ndarray:
    """Readings driven by two hidden causes, in units far from zero, with a little noise."""
    rng = np.random.default_rng(seed)
    loadings = np.random.default_rng(99).normal(size=(2, features))
    causes = rng.normal(size=(count, 2))
    return 70 + 12 * (causes @ loadings + 0.05 * rng.normal(size=(count, features)))


def test_the_graph_computes_the_squared_prediction_error_of_a_principal_component_model(
    tmp_path: Path,
) -> None:
    rows = machine_rows(800)
    package = load_package(write_sample_package(tmp_path / "p", rows, FEATURES, components=2))
    probe = machine_rows(50, seed=2) + 3.0
    answer = package.scorer.score(probe.astype(np.float32))

    # The textbook way, by singular values, independent of how the package's author went about it.
    normal = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    axes = np.linalg.svd(normal, full_matrices=False)[2][:2]
    centred = (probe - rows.mean(axis=0)) / rows.std(axis=0)
    residual = np.square(centred - centred @ axes.T @ axes)
    assert answer.contributions is not None
    np.testing.assert_allclose(answer.contributions, residual, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(answer.scores, residual.sum(axis=1), rtol=1e-3)


def test_normal_rows_stay_below_the_threshold_and_a_broken_relation_is_critical(tmp_path: Path) -> None:
    package = load_package(write_sample_package(tmp_path / "p", machine_rows(2_000), FEATURES))
    threshold = package.manifest.threshold

    unseen = package.scorer.score(machine_rows(5_000, seed=3).astype(np.float32)).scores
    assert np.mean(unseen > threshold) < 0.005

    # Each value alone is an ordinary one; only together they cannot be.
    broken = machine_rows(1, seed=4)
    broken[0, 2] += 40.0
    answer = package.scorer.score(broken.astype(np.float32))
    assert severity_of(package.manifest, float(answer.scores[0])) == "critical"
    assert answer.contributions is not None
    assert int(answer.contributions[0].argmax()) == 2


@pytest.mark.parametrize("features", [1, 2, 3, 5, 7, 8, 16, 38])
def test_scores_are_bit_equal_in_batches_of_any_size(tmp_path: Path, features: int) -> None:
    names = [f"feature {index}" for index in range(features)]
    rows = machine_rows(400, features=features)
    package = load_package(write_sample_package(tmp_path / "p", rows, names))
    assert package.trial.bit_equal

    matrix = machine_rows(1_024, seed=5, features=features).astype(np.float32)
    together = package.scorer.score(matrix)
    for size in (1, 2, 3, 31, 32, 256):
        pieces = [package.scorer.score(matrix[start : start + size]) for start in range(0, 1_024, size)]
        np.testing.assert_array_equal(np.concatenate([piece.scores for piece in pieces]), together.scores)


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    first = write_sample_package(tmp_path / "first", machine_rows(300), FEATURES)
    second = write_sample_package(tmp_path / "second", machine_rows(300), FEATURES)
    for name in ("model.onnx", "manifest.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_the_manifest_carries_names_layout_and_where_the_model_comes_from(tmp_path: Path) -> None:
    event = {"device": {"from": "record-key"}, "time": "/datetime", "features": ""}
    folder = write_sample_package(
        tmp_path / "p", machine_rows(300), FEATURES, name="valve", version="2024.1", components=2, event=event
    )
    package = load_package(folder)
    assert package.manifest.label == "valve@2024.1"
    assert package.manifest.features == FEATURES
    assert (package.manifest.event.device, package.manifest.event.features) == (None, "")
    provenance = json.loads((folder / "manifest.json").read_bytes())["provenance"]
    assert (provenance["rows"], provenance["components"]) == (300, 2)
    levels = package.manifest.severity
    assert [level.level.value for level in levels] == ["low", "medium", "high", "critical"]
    assert levels[0].score_min == package.manifest.threshold


def test_the_threshold_is_the_quantile_of_the_training_scores_with_its_margin() -> None:
    rows = machine_rows(500)
    _, exact = fit_sample(rows, FEATURES, quantile=1.0, margin=1.0)
    _, wider = fit_sample(rows, FEATURES, quantile=1.0, margin=3.0)
    _, lower = fit_sample(rows, FEATURES, quantile=0.5, margin=1.0)
    assert wider["threshold"] == pytest.approx(3 * float(str(exact["threshold"])))
    assert float(str(lower["threshold"])) < float(str(exact["threshold"]))


def test_a_constant_feature_divides_nothing_by_zero_and_alarms_when_it_moves(tmp_path: Path) -> None:
    rows = machine_rows(300)
    rows[:, 1] = 230.0
    package = load_package(write_sample_package(tmp_path / "p", rows, FEATURES))
    moved = rows[:1].copy()
    moved[0, 1] += 5.0
    still, shifted = package.scorer.score(np.vstack([rows[:1], moved]).astype(np.float32)).scores
    assert still <= package.manifest.threshold < shifted


def test_rows_without_any_spread_still_have_a_threshold_above_zero() -> None:
    _, manifest = fit_sample(np.full((10, 3), 5.0), ("a", "b", "c"))
    assert float(str(manifest["threshold"])) > 0


@pytest.mark.parametrize(
    ("rows", "arguments", "says"),
    [
        (np.zeros((1, 5)), {}, r"shape \(1, 5\), expected \(2 or more, 5\)"),
        (np.zeros((9, 4)), {}, r"shape \(9, 4\), expected \(2 or more, 5\)"),
        (np.full((9, 5), np.nan), {}, "NaN or infinity"),
        (machine_rows(9), {"components": 5}, "5 components of 5 features; expected 0 to 4"),
        (machine_rows(9), {"quantile": 0.0}, "quantile 0"),
        (machine_rows(9), {"margin": 0.0}, "margin 0"),
    ],
)
def test_rows_that_cannot_be_fitted_are_refused_with_what_would_be_right(
    rows: np.ndarray, arguments: dict[str, float], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        fit_sample(rows, FEATURES, **arguments)
