"""The job that every contender does, and the protocol between them and the benchmarks.

Job: read JSON events (by default about 270 bytes with 16 features) from a topic, score each with an ONNX
autoencoder (mean squared error), write one JSON result an event, keyed alike, to a second topic; at least
once, `acks=all`, offsets committed every second after the results are acknowledged.

A contender is a program. It gets BOOTSTRAP, IN_TOPIC, OUT_TOPIC, PACKAGE and N in the environment, reads from
the earliest offset, and prints one JSON line once N results are acknowledged.
"""

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import orjson
from onnx import TensorProto, helper, numpy_helper

from farshore.streams.packages.writer import write_package

FEATURE_COUNT = 16
FEATURES = tuple(f"f{number:02d}" for number in range(FEATURE_COUNT))
PARTITIONS = 4
DEVICES = 500
HIDDEN = (32, 8, 32)
THRESHOLD = 3.0  # about one event in a thousand
COMMIT_SECONDS = 1.0
BATCH_ROWS_MAX = 2_000
ROWS_KEPT = 1_000  # distinct readings; they repeat, devices and times go on


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

    def report(self, events: int, **more: float) -> None:
        """Print the line that the benchmark waits for; `more` is what else this contender tells of itself."""
        assert self._begin is not None
        wall, cpu = self._begin
        line = {
            "events": events,
            "seconds": time.perf_counter() - wall,
            "cpu_seconds": time.process_time() - cpu,
            **more,
        }
        print(json.dumps(line), file=sys.__stdout__, flush=True)


@dataclass(frozen=True, slots=True)
class EventSpec:
    """Events in the default layout; `bytes_min` is reached by a member that no model asks for."""

    features: int = FEATURE_COUNT
    devices: int = DEVICES
    bytes_min: int = 0

    def events(self, count: int, first: int = 0) -> Iterator[tuple[bytes, bytes]]:
        """Key and value of events `first` to `first + count`."""
        kept = max(1, min(ROWS_KEPT, (1 << 25) // max(self.features * 12, self.bytes_min)))
        rows = np.random.default_rng(1).normal(size=(kept, self.features)).round(4).tolist()
        names = feature_names(self.features)
        readings = [self._padded(orjson.dumps(dict(zip(names, row, strict=True)))) for row in rows]
        for number in range(first, first + count):
            device = b"pump-%d" % (number % self.devices)
            yield (
                device,
                b'{"device":"%b","time":%d,"readings":%b'
                % (device, 1_690_000_000_000 + number, readings[number % kept]),
            )

    def _padded(self, readings: bytes) -> bytes:
        missing = self.bytes_min - len(readings) - 60
        return readings + (b',"note":"%b"}' % (b"x" * missing) if missing > 0 else b"}")


def feature_names(count: int) -> tuple[str, ...]:
    """The names of the first `count` features."""
    return tuple(f"f{number:02d}" for number in range(count))


def make_package(folder: Path, features: int = FEATURE_COUNT, hidden: Sequence[int] = HIDDEN) -> Path:
    """An autoencoder (features, *hidden, features) with fixed random weights and its error as the score."""
    rng = np.random.default_rng(0)
    sizes = (features, *hidden, features)
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
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", features])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, ["batch", features])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    manifest = {
        "format": 1,
        "name": "autoencoder",
        "version": "1",
        "features": list(feature_names(features)),
        "input": {"name": "x", "dtype": "float32", "shape": ["batch", features]},
        "score": {"output": last, "rule": "reconstruction-error"},
        "threshold": THRESHOLD,
    }
    return write_package(folder, model.SerializeToString(), manifest)
