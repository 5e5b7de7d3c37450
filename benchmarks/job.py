"""The job that every contender does, and the protocol between them and `run.py`.

Job: read JSON events of about 270 bytes with 16 features from a topic of 4 partitions, score each with an
ONNX autoencoder (mean squared error), write one JSON result an event, keyed alike, to a second topic; at
least once, `acks=all`, offsets committed every second after the results are acknowledged.

A contender is a program. It gets BOOTSTRAP, IN_TOPIC, OUT_TOPIC, PACKAGE and N in the environment, reads from
the earliest offset, and prints one JSON line once N results are acknowledged.
"""

import json
import os
import sys
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import orjson
from onnx import TensorProto, helper, numpy_helper

from farshore.streams.packages.writer import write_package

FEATURES = tuple(f"f{number:02d}" for number in range(16))
PARTITIONS = 4
THRESHOLD = 3.0  # about one event in a thousand
COMMIT_SECONDS = 1.0
BATCH_ROWS_MAX = 2_000


@dataclass(frozen=True, slots=True)
class Task:
    """What a contender is told."""

    bootstrap: str
    in_topic: str
    out_topic: str
    package: Path
    events: int


def task() -> Task:
    """The task in the environment."""
    given = os.environ
    return Task(
        given["BOOTSTRAP"], given["IN_TOPIC"], given["OUT_TOPIC"], Path(given["PACKAGE"]), int(given["N"])
    )


class Clock:
    """Wall and process CPU seconds from the first record to the last acknowledged result."""

    def __init__(self) -> None:
        self._begin: tuple[float, float] | None = None

    def start(self) -> None:
        """Call for each record or batch; the first call counts."""
        if self._begin is None:
            self._begin = time.perf_counter(), time.process_time()

    def report(self, events: int) -> None:
        """Print the line that `run.py` waits for."""
        assert self._begin is not None
        wall, cpu = self._begin
        line = {
            "events": events,
            "seconds": time.perf_counter() - wall,
            "cpu_seconds": time.process_time() - cpu,
        }
        print(json.dumps(line), file=sys.__stdout__, flush=True)


def events(count: int, seed: int = 1) -> list[tuple[bytes, bytes]]:
    """Key and value of `count` events in the default layout."""
    rows = np.random.default_rng(seed).normal(size=(count, len(FEATURES))).round(4).tolist()
    return [
        (
            b"pump-%d" % (number % 500),
            orjson.dumps(
                {
                    "device": f"pump-{number % 500}",
                    "time": 1_690_000_000_000 + number,
                    "readings": dict(zip(FEATURES, row, strict=True)),
                }
            ),
        )
        for number, row in enumerate(rows)
    ]


def make_package(folder: Path) -> Path:
    """A 16-32-8-32-16 autoencoder with fixed random weights, scored by its reconstruction error."""
    rng = np.random.default_rng(0)
    sizes = (16, 32, 8, 32, 16)
    nodes, constants, last = [], [], "x"
    for layer, (rows, columns) in enumerate(pairwise(sizes)):
        weight = (rng.normal(size=(rows, columns)) / np.sqrt(rows)).astype(np.float32)
        constants += [
            numpy_helper.from_array(weight, f"w{layer}"),
            numpy_helper.from_array(np.zeros(columns, np.float32), f"b{layer}"),
        ]
        nodes.append(helper.make_node("Gemm", [last, f"w{layer}", f"b{layer}"], [f"y{layer}"]))
        last = f"y{layer}"
        if layer < len(sizes) - 2:
            nodes.append(helper.make_node("Relu", [last], [f"z{layer}"]))
            last = f"z{layer}"
    graph = helper.make_graph(
        nodes,
        "autoencoder",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 16])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, ["batch", 16])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    manifest = {
        "format": 1,
        "name": "autoencoder",
        "version": "1",
        "features": list(FEATURES),
        "input": {"name": "x", "dtype": "float32", "shape": ["batch", 16]},
        "score": {"output": last, "rule": "reconstruction-error"},
        "threshold": THRESHOLD,
    }
    return write_package(folder, model.SerializeToString(), manifest)
