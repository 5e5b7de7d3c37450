"""The largest anomaly record of a package, estimated, against records as the pipeline writes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from farshore.schemas.manifest import parse_manifest
from farshore.schemas.topics import Role, TopicNames, topic_specs
from farshore.streams.packages.loader import load_package
from farshore.streams.packages.record_size import anomaly_bytes_max
from farshore.streams.packages.writer import write_package
from farshore.streams.scoring.codec import encode
from farshore.streams.scoring.pipeline import EventPipeline
from farshore.streams.transport.batch import PartitionBatch

from ..conftest import Build, describe

EVENT_BYTES_MAX = 1_048_576
NAMES = {
    "short": [f"f{index}" for index in range(3)],
    "long, with signs that JSON escapes and letters of several bytes": [
        f'"\\n\\u00fc{index}' + "Druck-µ" * 30 for index in range(300)
    ],
}


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("contributions", [False, True])
def test_no_record_is_larger_than_what_was_estimated_and_the_estimate_is_close(
    build: Build, tmp_path: Path, names: list[str], contributions: bool
) -> None:
    model = build(
        [
            helper.make_node("MatMul", ["x", "ones"], ["y"]),
            helper.make_node("Mul", ["x", "third"], ["z"]),
        ],
        inputs={"x": (TensorProto.FLOAT, ["batch", len(names)])},
        outputs=("y", "z"),
        constants={
            "ones": np.ones((len(names), 1), np.float32),
            "third": np.full(1, 1 / 3, np.float32),
        },
    )
    extra: dict[str, object] = {"contributions": {"output": "z"}} if contributions else {}
    manifest = describe(len(names)) | {"features": names} | extra
    package = load_package(write_package(tmp_path / "package", model, manifest))
    event = encode(
        {
            "device": "\x00" * 256,
            "time": 1_700_000_000_000,
            # Of the longest a float32 can be read as, and above the threshold.
            "readings": dict.fromkeys(names, 1.2345678901234567e-30) | {names[0]: 123.45678901234567},
        }
    )
    pipeline = EventPipeline(package, site="north", event_bytes_max=EVENT_BYTES_MAX, batch_rows_max=10)
    batch = PartitionBatch("events", 0, 1, [0], [0], [None], [event], 0)
    (record,) = pipeline.process(batch, now_ms=1_700_000_000_000).anomalies.values
    assert record is not None
    largest = len(record)
    estimate = anomaly_bytes_max(package.manifest, site="north", topic="events")
    assert largest < estimate < largest * 1.1 + 1_000


def test_the_topics_take_every_anomaly_of_a_thousand_features_and_not_of_fifty_thousand_with_long_names() -> (
    None
):
    specs = topic_specs(
        TopicNames(), partitions=1, replication=1, in_sync_replicas_min=1, event_bytes_max=8_388_608
    )
    (store,) = [spec for spec in specs if spec.role is Role.ANOMALIES]
    limit = int(store.config["max.message.bytes"])

    def estimate(features: int, length: int) -> int:
        manifest = parse_manifest(
            describe(features)
            | {"features": [f"{index:0{length}}" for index in range(features)]}
            | {"format": 1, "model_sha256": "0" * 64, "contributions": {"output": "z"}}
        )
        return anomaly_bytes_max(manifest, site="north", topic="events")

    assert estimate(1_000, 200) < limit
    assert estimate(50_000, 100) > limit
