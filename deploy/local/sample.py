"""The sample model: a PCA residual fitted to normal readings, as a model package.

A reading is normalised by feature, projected on the principal components of the training rows, and what the
components do not explain is squared: by feature these are the contributions, their sum is the score. This
is the Q statistic or squared prediction error (Jackson & Mudholkar, Technometrics 21(3), 1979). All of it is
in the graph, in five nodes:

  x [batch, f] ─ Sub mean ─ Mul 1/std ─ MatMul (I - P Pᵀ) ─ Mul itself ─┬─► contributions [batch, f]
                                                                        └─ MatMul ones ─► score [batch, 1]

P are the first components, (f, k). Their residual projector is one (f, f) matrix: one product instead of two,
and for the tens of features that a machine has, fewer operations as well. The sum is a product with ones, for
ReduceSum and ReduceMean add a row in an order that depends on where it lies in memory: unless f is a multiple
of 4, the last bit of a score then changes with the row's place in its batch.

Guarantee: the same rows give the same bytes.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, TensorProto, checker, helper, numpy_helper

from ..streams.packages.writer import write_package

__all__ = [
    "EXPLAINED_SHARE",
    "MARGIN",
    "QUANTILE",
    "SEVERITY_TIMES_THRESHOLD",
    "fit_sample",
    "model_bytes",
    "write_sample_package",
]

EXPLAINED_SHARE: Final = 0.9
"""Share of the training rows' variance that the components keep, unless their number is given."""

QUANTILE: Final = 0.999
"""The threshold starts at this quantile of the training scores."""

MARGIN: Final = 1.5
"""The threshold is the quantile times this: a fit knows its own rows better than those to come."""

SEVERITY_TIMES_THRESHOLD: Final = {"low": 1.0, "medium": 2.0, "high": 5.0, "critical": 20.0}
"""Scores are squares: five times the threshold is a residual a good two times as large."""

_OPSET: Final = 17
_IR_VERSION: Final = 8  # what opset 17 came with; every ONNX Runtime from 1.20 on reads both
_SCORE_MIN: Final = 1e-6  # rounding of float32 must not be an anomaly where the fit leaves nothing over
_SPREAD_MIN: Final = 1e-6  # of the mean's size; a feature with less is a constant, told by float32 no more

Matrix = npt.NDArray[np.float64]


def fit_sample(
    rows: npt.NDArray[np.floating],
    features: Sequence[str],
    *,
    name: str = "sample",
    version: str = "1",
    components: int | None = None,
    quantile: float = QUANTILE,
    margin: float = MARGIN,
    event: Mapping[str, object] | None = None,
) -> tuple[bytes, dict[str, object]]:
    """Model and manifest (without the digest, which `write_package` adds) for normal `rows`.

    `rows` is (n, f), finite, n >= 2, in the order of `features`. `components` is 0 to f - 1, by default as
    many as explain EXPLAINED_SHARE. `event` is the manifest's section on the producers' layout, the default
    layout without one. Raises ValueError.
    """
    matrix = np.asarray(rows, np.float64)
    if matrix.ndim != 2 or matrix.shape[0] < 2 or matrix.shape[1] != len(features):
        raise ValueError(f"rows have shape {matrix.shape}, expected (2 or more, {len(features)})")
    if not np.isfinite(matrix).all():
        raise ValueError("rows hold NaN or infinity; leave out or fill what was not measured")
    if not 0 < quantile <= 1 or margin <= 0:
        raise ValueError(f"quantile {quantile:g} and margin {margin:g}; expected (0, 1] and above 0")
    mean, spread = matrix.mean(axis=0), matrix.std(axis=0)
    std = np.where(spread > _SPREAD_MIN * np.maximum(np.abs(mean), 1.0), spread, 1.0)
    normal = (matrix - mean) / std
    residual, kept, share = _residual(normal, components)
    scores = np.square(normal @ residual).sum(axis=1)
    threshold = max(float(np.quantile(scores, quantile)) * margin, _SCORE_MIN)
    manifest: dict[str, object] = {
        "format": 1,
        "name": name,
        "version": version,
        "features": list(features),
        "event": dict(event or {}),
        "input": {"name": "x", "dtype": "float32", "shape": ["batch", len(features)]},
        "score": {"output": "score", "rule": "column", "column": 0},
        "contributions": {"output": "contributions"},
        "threshold": threshold,
        "severity": [
            {"level": level, "score_min": threshold * factor}
            for level, factor in SEVERITY_TIMES_THRESHOLD.items()
        ],
        "provenance": {
            "method": "PCA residual (Q statistic)",
            "rows": len(matrix),
            "components": kept,
            "explained_share": round(share, 6),
            "quantile": quantile,
            "margin": margin,
        },
    }
    return _graph(mean, 1.0 / std, residual), manifest


def write_sample_package(
    folder: Path,
    rows: npt.NDArray[np.floating],
    features: Sequence[str],
    *,
    name: str = "sample",
    version: str = "1",
    components: int | None = None,
    quantile: float = QUANTILE,
    margin: float = MARGIN,
    event: Mapping[str, object] | None = None,
) -> Path:
    """Fit as `fit_sample` does and write the package to `folder`, which is returned."""
    model_bytes, manifest = fit_sample(
        rows,
        features,
        name=name,
        version=version,
        components=components,
        quantile=quantile,
        margin=margin,
        event=event,
    )
    return write_package(folder, model_bytes, manifest)


def _residual(normal: Matrix, components: int | None) -> tuple[Matrix, int, float]:
    """I - P Pᵀ, (f, f), the number of components in P, and the share of variance they explain."""
    count = normal.shape[1]
    variances, axes = np.linalg.eigh(normal.T @ normal / len(normal))
    variances, axes = np.maximum(variances[::-1], 0.0), axes[:, ::-1]
    total = float(variances.sum())
    shares = np.cumsum(variances) / total if total > 0 else np.ones(count)
    if components is None:
        # At least one direction must be left over: with all of them kept, no residual could ever arise.
        components = min(int(np.searchsorted(shares, EXPLAINED_SHARE)) + 1, count - 1)
    if not 0 <= components < count:
        raise ValueError(f"{components} components of {count} features; expected 0 to {count - 1}")
    kept = axes[:, :components]
    return np.eye(count) - kept @ kept.T, components, float(shares[components - 1]) if components else 0.0


def _graph(mean: Matrix, inverse_std: Matrix, residual: Matrix) -> bytes:
    count = len(mean)
    constants = {
        "mean": mean,
        "inverse_std": inverse_std,
        "residual": residual,
        "ones": np.ones((count, 1)),
    }
    nodes = [
        helper.make_node("Sub", ["x", "mean"], ["centred"]),
        helper.make_node("Mul", ["centred", "inverse_std"], ["normal"]),
        helper.make_node("MatMul", ["normal", "residual"], ["left"]),
        helper.make_node("Mul", ["left", "left"], ["contributions"]),
        helper.make_node("MatMul", ["contributions", "ones"], ["score"]),
    ]
    return model_bytes("pca_residual", nodes, constants, width=count, features=count)


def model_bytes(
    name: str, nodes: Sequence[NodeProto], constants: Mapping[str, Matrix], *, width: int, features: int
) -> bytes:
    """A float32 model x [batch, width] -> contributions [batch, features] and score [batch, 1]."""
    graph = helper.make_graph(
        list(nodes),
        name,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", width])],
        [
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch", 1]),
            helper.make_tensor_value_info("contributions", TensorProto.FLOAT, ["batch", features]),
        ],
        [numpy_helper.from_array(value.astype(np.float32), key) for key, value in constants.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", _OPSET)], producer_name="farshore"
    )
    model.ir_version = _IR_VERSION
    checker.check_model(model)
    serialized: bytes = model.SerializeToString()
    return serialized
