"""Layouts to decode, batches to score, and the sample model to score them by."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from farshore.local.sample import write_sample_package
from farshore.schemas.manifest import Manifest, parse_manifest
from farshore.streams.packages.loader import ModelPackage, load_package
from farshore.streams.transport.batch import PartitionBatch

FEATURES = ("temperature", "pressure", "vibration")


@pytest.fixture(scope="session")
def manifest_of() -> Callable[..., Manifest]:
    """A manifest of three features in some layout and dtype."""

    def build(event: dict[str, object] | None = None, **changes: object) -> Manifest:
        return parse_manifest(
            {
                "format": 1,
                "name": "pump",
                "version": "1",
                "model_sha256": "0" * 64,
                "features": list(FEATURES),
                "event": event or {},
                "input": {"name": "x", "dtype": "float32", "shape": ["batch", 3]},
                "score": {"output": "y", "rule": "column"},
                "threshold": 1.0,
                **changes,
            }
        )

    return build


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    """The sample model over the three features, which lie around 20, 3 and 0.5."""
    rng = np.random.default_rng(1)
    cause = rng.normal(size=(500, 1))
    rows = (
        np.array([20.0, 3.0, 0.5]) + cause * [2.0, 0.5, 0.1] + rng.normal(size=(500, 3)) * [0.2, 0.05, 0.01]
    )
    return load_package(write_sample_package(tmp_path_factory.mktemp("sample") / "package", rows, FEATURES))


@pytest.fixture(scope="session")
def batch_of() -> Callable[..., PartitionBatch]:
    """A batch of values at consecutive offsets from 100 on, each under the key `k`."""

    def build(values: Sequence[bytes | None], *, topic: str = "events", partition: int = 3) -> PartitionBatch:
        count = len(values)
        return PartitionBatch(
            topic=topic,
            partition=partition,
            next_offset=100 + count,
            offsets=range(100, 100 + count),
            timestamps_ms=[1_700_000_000_000 + index for index in range(count)],
            keys=[b"k"] * count,
            values=values,
            size_bytes=sum(len(value or b"") for value in values),
        )

    return build


@pytest.fixture(scope="session")
def event_bytes() -> Callable[..., bytes]:
    """One event in the default layout, ordinary unless told otherwise."""

    def build(
        temperature: float = 20.0,
        pressure: float = 3.0,
        vibration: float = 0.5,
        *,
        time: int = 1_690_000_000_123,
    ) -> bytes:
        return (
            b'{"device":"pump-17","time":%d,"readings":{"temperature":%s,"pressure":%s,"vibration":%s}}'
            % (time, *(repr(float(number)).encode() for number in (temperature, pressure, vibration)))
        )

    return build
