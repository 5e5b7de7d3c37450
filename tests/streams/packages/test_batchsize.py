"""The size of a model run: the cheapest a row, the smallest of equals, found in bounded time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from farshore.schemas.manifest import Manifest, parse_manifest
from farshore.streams.packages.batchsize import BatchSize, measure_batch_size
from farshore.streams.packages.loader import load_package
from farshore.streams.scoring.inference import ModelOutputError

from ..conftest import Build, Pack, describe

Seconds = Callable[[int], float]


class Pretend:
    """A model whose run of n rows takes `seconds(n)`, and the clock that shows it."""

    def __init__(self, seconds: Seconds, fails_beyond: int = 1 << 30) -> None:
        self._seconds = seconds
        self._fails_beyond = fails_beyond
        self.now = 0.0
        self.largest = 0

    def score(self, matrix: np.ndarray) -> None:
        rows = len(matrix)
        if rows > self._fails_beyond:
            raise ModelOutputError(f"{rows} rows are too many")
        self.largest = max(self.largest, rows)
        self.now += self._seconds(rows)

    def measure(self, manifest: Manifest, rows_max: int = 2_000, seconds_max: float = 2.0) -> BatchSize:
        return measure_batch_size(
            manifest, self.score, rows_max=rows_max, seconds_max=seconds_max, clock=lambda: self.now
        )


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return parse_manifest({"format": 1, "model_sha256": "0" * 64, **describe(3)})


def by_size(costs: Mapping[int, float]) -> Seconds:
    """Seconds of a run from seconds a row at some sizes; between them the one below holds."""
    return lambda rows: rows * costs[max(size for size in costs if size <= rows)]


def test_a_model_that_gains_from_company_gets_all_the_rows_it_may(manifest: Manifest) -> None:
    assert Pretend(lambda rows: 1e-4 + rows * 1e-8).measure(manifest).rows == 1_024
    assert Pretend(lambda rows: 1e-4 + rows * 1e-8).measure(manifest, rows_max=100).rows == 64


def test_a_model_that_is_slower_in_large_batches_gets_small_ones(manifest: Manifest) -> None:
    costs = {1: 9e-5, 2: 5e-5, 4: 3e-5, 8: 2e-5, 16: 1e-5, 32: 3e-5}
    model = Pretend(by_size(costs))
    assert model.measure(manifest).rows == 16
    assert model.largest <= 16 << 3, "larger ones are not tried for ever"


def test_of_sizes_as_good_as_one_another_the_smallest_is_taken(manifest: Manifest) -> None:
    assert Pretend(by_size({1: 2e-5, 8: 1.03e-5, 32: 1e-5})).measure(manifest).rows == 8


def test_a_dip_in_the_curve_does_not_hide_what_lies_behind_it(manifest: Manifest) -> None:
    assert Pretend(by_size({1: 2e-5, 2: 3e-5, 8: 1e-5})).measure(manifest).rows == 8


@given(
    fixed=st.floats(1e-6, 1.0),
    each=st.floats(1e-9, 1.0),
    bend=st.integers(1, 4_096),
    rows_max=st.integers(1, 5_000),
)
def test_no_model_is_measured_longer_or_with_more_rows_than_allowed(
    manifest: Manifest, fixed: float, each: float, bend: int, rows_max: int
) -> None:
    def seconds(rows: int) -> float:
        return fixed + each * rows + max(0, rows - bend) * each

    model = Pretend(seconds)
    found = model.measure(manifest, rows_max=rows_max)
    assert 1 <= found.rows <= rows_max
    assert found.rows & (found.rows - 1) == 0
    assert model.largest <= rows_max
    assert model.now <= 2.0 + seconds(1) + seconds(max(found.seconds_a_row, default=1) * 2)


def test_a_model_that_fails_on_large_batches_gets_those_it_takes(manifest: Manifest) -> None:
    assert Pretend(lambda rows: 1e-4 + rows * 1e-8, fails_beyond=50).measure(manifest).rows == 32


def test_a_model_that_fails_on_every_trial_row_is_left_at_the_limit(manifest: Manifest) -> None:
    assert Pretend(lambda rows: 1e-3, fails_beyond=0).measure(manifest) == BatchSize(1_024, {})


def test_wide_rows_are_not_measured_by_the_thousand() -> None:
    wide = parse_manifest({"format": 1, "model_sha256": "0" * 64, **describe(50_000)})
    model = Pretend(lambda rows: 1e-4 + rows * 1e-8)
    assert model.measure(wide).rows == 64
    assert model.largest * 50_000 * 4 <= 16 * 1024 * 1024


def test_a_real_model_is_measured(pack: Pack, build: Build, tmp_path: Path) -> None:
    weights = np.random.default_rng(1).normal(size=(3, 1)).astype(np.float32)
    model = build(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        inputs={"x": (TensorProto.FLOAT, ["batch", 3])},
        constants={"w": weights},
    )
    package = load_package(pack(model, 3))
    found = measure_batch_size(package.manifest, package.scorer.score, rows_max=500)
    assert found.rows in found.seconds_a_row
    assert found.seconds_a_row[found.rows] <= found.seconds_a_row[1]
