"""A sample package with a window: the PCA residual of a device's last readings, by feature and in all.

As `sample.py` says it, with a whole window for a row. The manifest scales readings before they are kept, so
that no value is scaled once for each window it stands in. A window has too many values for one square matrix,
so the residual is made by two thin products:

  x [batch, w * f] ─┬─ MatMul P ─ MatMul Pᵀ ─┐
                    └────────────────────── Sub ─ Mul itself ─ MatMul by feature ─┬─► contributions [batch, f]
                                                                                 └─ MatMul ones ─► score

Guarantee: the same readings give the same bytes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from onnx import helper

from ..streams.packages.writer import write_package
from .sample import MARGIN, QUANTILE, SEVERITY_TIMES_THRESHOLD, model_bytes

__all__ = ["write_windowed_package"]

_COMPONENTS: Final = 8

Matrix = npt.NDArray[np.float64]


def write_windowed_package(
    folder: Path,
    recordings: Sequence[npt.NDArray[np.floating]],
    features: Sequence[str],
    *,
    window: int,
    window_horizon: int,
    median_of: int = 1,
    rest_seconds: float = 0.0,
    name: str = "windowed-sample",
    version: str = "1",
) -> Path:
    """Fit to normal `recordings`, one a device, each (n, f) with n >= window; write and return the folder."""
    readings = np.concatenate([np.asarray(recording, np.float64) for recording in recordings])
    mean, spread = readings.mean(axis=0), readings.std(axis=0)
    std = np.where(spread > 0, spread, 1.0)
    rows = np.concatenate([_windows((recording - mean) / std, window) for recording in recordings])
    count = len(features)
    components = min(_COMPONENTS, window * count - 1)
    _, axes = np.linalg.eigh(rows.T @ rows / len(rows))
    kept = axes[:, ::-1][:, :components]
    scores = np.square(rows - rows @ kept @ kept.T).sum(axis=1)
    threshold = float(np.quantile(scores, QUANTILE)) * MARGIN
    manifest = {
        "name": name,
        "version": version,
        "features": list(features),
        "window": window,
        "window_horizon": window_horizon,
        "input": {
            "name": "x",
            "dtype": "float32",
            "shape": ["batch", window * count],
            "scaling": {"mean": mean.tolist(), "std": std.tolist()},
        },
        "score": {"output": "score", "rule": "column", "column": 0},
        "contributions": {"output": "contributions"},
        "threshold": threshold,
        "severity": [
            {"level": level, "score_min": threshold * factor}
            for level, factor in SEVERITY_TIMES_THRESHOLD.items()
        ],
        "after": {"median_of": median_of, "rest_seconds": rest_seconds},
        "provenance": {"method": "PCA residual (Q statistic) of windows", "components": components},
    }
    return write_package(folder, _graph(kept, window, count), manifest)


def _windows(recording: Matrix, window: int) -> Matrix:
    """Every full window of a recording, (n - window + 1, window * f)."""
    views = np.lib.stride_tricks.sliding_window_view(recording, window, axis=0)
    return np.ascontiguousarray(views.transpose(0, 2, 1)).reshape(len(views), -1)


def _graph(kept: Matrix, window: int, count: int) -> bytes:
    constants = {
        "components": kept,
        "back": kept.T,
        "by_feature": np.tile(np.eye(count), (window, 1)),
        "ones": np.ones((count, 1)),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "components"], ["parts"]),
        helper.make_node("MatMul", ["parts", "back"], ["explained"]),
        helper.make_node("Sub", ["x", "explained"], ["left"]),
        helper.make_node("Mul", ["left", "left"], ["squares"]),
        helper.make_node("MatMul", ["squares", "by_feature"], ["contributions"]),
        helper.make_node("MatMul", ["contributions", "ones"], ["score"]),
    ]
    return model_bytes("pca_residual_of_windows", nodes, constants, width=window * count, features=count)
