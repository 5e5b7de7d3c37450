"""Our worker as a peer of an outside harness, whose records have members of other names.

The harness gives BOOTSTRAP, IN_TOPIC, OUT_TOPIC, MODEL and N in the environment. Its events are
`{"device_id", "ts", "readings"}`, its results `{"device_id", "ts", "score", "anomaly"}`; its model flattens
its output to (rows x features, 1), which a package may not, so one Reshape is added behind it. TIME_UNIT=us
for events that are stamped in microseconds. Everything else is as in `ours.py`.
"""

import asyncio
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import uvloop
from job import FEATURES
from onnx import TensorProto, helper, numpy_helper
from ours import run_to, settings_for
from topics import make_room

from farshore.agents.logs import set_up_logging
from farshore.streams.packages.loader import load_package
from farshore.streams.packages.writer import write_package
from farshore.streams.scoring import pipeline
from farshore.streams.scoring.codec import encode, encode_numbers
from farshore.streams.scoring.encoding import ScoredEncoder

THRESHOLD = 1.5
TICKS_A_MS = {"ms": 1, "us": 1_000}[os.environ.get("TIME_UNIT", "ms")]


class PeerEncoder(ScoredEncoder):
    """The harness's records, made in the same way as ours."""

    def encode(
        self,
        topic: str,
        partition: int,
        *,
        devices: Sequence[str],
        times_ms: Sequence[int],
        scores: npt.NDArray[np.float64],
        alarms: npt.NDArray[np.bool_],
        offsets: Sequence[int],
    ) -> list[bytes]:
        columns = zip(
            self._encoded_devices(devices),
            encode([time * TICKS_A_MS for time in times_ms])[1:-1].split(b","),
            encode_numbers(scores)[1:-1].split(b","),
            encode_numbers(alarms)[1:-1].split(b","),
            strict=True,
        )
        return list(map(b'{"device_id":%b,"ts":%b,"score":%b,"anomaly":%b}'.__mod__, columns))


def make_package(model_path: str, folder: Path) -> Path:
    model = onnx.load(model_path)
    flat = model.graph.output[0].name
    model.graph.initializer.append(numpy_helper.from_array(np.array([-1, len(FEATURES)]), "row_shape"))
    model.graph.node.append(helper.make_node("Reshape", [flat, "row_shape"], ["rows"]))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["batch", 16]))
    manifest = {
        "name": "peer",
        "version": "1",
        "features": list(FEATURES),
        "event": {"device": "/device_id", "time": "/ts", "time_unit": os.environ.get("TIME_UNIT", "ms")},
        "input": {"name": model.graph.input[0].name, "dtype": "float32", "shape": ["batch", len(FEATURES)]},
        "score": {"output": "rows", "rule": "reconstruction-error"},
        "threshold": THRESHOLD,
    }
    return write_package(folder, model.SerializeToString(), manifest)


def main() -> None:
    set_up_logging("warning")
    given = os.environ
    with tempfile.TemporaryDirectory() as folder:
        package = load_package(make_package(given["MODEL"], Path(folder) / "package"))
    pipeline.ScoredEncoder = PeerEncoder  # type: ignore[attr-defined]  # the harness's record format, here alone
    asyncio.run(make_room(given["BOOTSTRAP"], given["OUT_TOPIC"]))  # the harness makes all topics alike
    settings = settings_for(given["BOOTSTRAP"], given["IN_TOPIC"], given["OUT_TOPIC"])
    uvloop.run(run_to(int(given["N"]), settings, package))


if __name__ == "__main__":
    main()
