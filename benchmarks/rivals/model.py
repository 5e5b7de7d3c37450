"""The model as a hand-written loop would use it: ONNX Runtime on one thread, a matrix from decoded events."""

import json
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from job import THRESHOLD

__all__ = ["THRESHOLD", "RivalModel"]


class RivalModel:
    """A package's model with the two rules the benchmarks use, features by name or in order."""

    def __init__(self, package: Path) -> None:
        manifest = json.loads((package / "manifest.json").read_text())
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            package / "model.onnx", options, providers=["CPUExecutionProvider"]
        )
        self._input = manifest["input"]["name"]
        self._shape = manifest["input"]["shape"][1:]
        self._features = itemgetter(*manifest["features"])
        self._reconstruction = manifest["score"]["rule"] == "reconstruction-error"
        self.label = f"{manifest['name']}@{manifest['version']}"

    def scores(self, documents: list[Any]) -> list[float]:  # decoded JSON, unchecked as in any such loop
        """One score a decoded event."""
        readings = [document["readings"] for document in documents]
        if isinstance(readings[0], dict):
            readings = [self._features(by_name) for by_name in readings]
        rows = np.array(readings, np.float32)
        (answer,) = self._session.run(None, {self._input: rows.reshape(len(rows), *self._shape)})
        if self._reconstruction:
            found: list[float] = np.square(answer - rows).mean(axis=1).tolist()
        else:
            found = answer.max(axis=1).tolist()
        return found
