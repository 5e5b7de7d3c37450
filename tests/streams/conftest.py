"""Foreign models built in memory, and folders that hold them: what a site's data scientists might bring."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from farshore.streams.packages.writer import write_package

Build = Callable[..., bytes]
Pack = Callable[..., Path]


def build_model(
    nodes: Sequence[NodeProto],
    *,
    inputs: Mapping[str, tuple[int, Sequence[int | str] | None]],
    outputs: Sequence[str] = ("y",),
    constants: Mapping[str, np.ndarray] | None = None,
    opset: int = 17,
) -> bytes:
    """A model's bytes; the types of its outputs are left to ONNX Runtime's inference."""
    graph = helper.make_graph(
        list(nodes),
        "foreign",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 8
    content: bytes = model.SerializeToString()
    return content


def describe(features: int, **changes: object) -> dict[str, object]:
    """A manifest for a float32 model x [batch, features] -> y whose column 0 is the score."""
    return {
        "name": "foreign",
        "version": "1",
        "features": [f"f{index}" for index in range(features)],
        "input": {"name": "x", "dtype": "float32", "shape": ["batch", features]},
        "score": {"output": "y", "rule": "column"},
        "threshold": 1.0,
        **changes,
    }


@pytest.fixture
def build() -> Build:
    return build_model


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    """Writes a package of model bytes, a number of features and changes to the plain manifest."""

    def write(model: bytes, features: int, **changes: object) -> Path:
        return write_package(tmp_path / "package", model, describe(features, **changes))

    return write


@pytest.fixture
def summing_model() -> bytes:
    """x [batch, 3] -> y [batch, 1], the sum of each row."""
    return build_model(
        [helper.make_node("MatMul", ["x", "ones"], ["y"])],
        inputs={"x": (TensorProto.FLOAT, ["batch", 3])},
        constants={"ones": np.ones((3, 1), np.float32)},
    )


@pytest.fixture
def rewrite() -> Callable[..., None]:
    """Changes members of a package's manifest.json behind the writer's back."""

    def change(folder: Path, **changes: object) -> None:
        path = folder / "manifest.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change
