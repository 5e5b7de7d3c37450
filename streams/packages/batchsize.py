"""How many rows one run of the model should take: measured, because for some models a larger batch is slower.

Guarantees:
  1 <= rows <= rows_max, and rows is a power of two
  the measuring ends within seconds_max and one run of the model
It decides about speed alone: a score does not depend on the batch it was computed in (the trial run looks).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

import numpy as np

from ...schemas.manifest import Manifest
from ..scoring.inference import ModelOutputError, Tensor
from .trialrows import ROW_KINDS

__all__ = ["MEASURE_SECONDS_MAX", "BatchSize", "measure_batch_size"]

MEASURE_SECONDS_MAX: Final = 2.0

_SEED: Final = 20_240_602
_ROUNDS: Final = 3
_SLOWER_BY: Final = 1.05
"""A larger batch must gain more than this to be worth its memory and its wait."""
_PATIENCE: Final = 3
"""Doublings without a gain after which larger sizes are not tried."""
_TRY_SECONDS: Final = 0.004
_INPUT_BYTES_MAX: Final = 16 * 1024 * 1024

Score = Callable[[Tensor], object]


@dataclass(frozen=True, slots=True)
class BatchSize:
    """The rows of one run, and what was measured: seconds a row by size, empty when nothing could be."""

    rows: int
    seconds_a_row: dict[int, float]


def measure_batch_size(
    manifest: Manifest,
    score: Score,
    *,
    rows_max: int,
    seconds_max: float = MEASURE_SECONDS_MAX,
    clock: Callable[[], float] = time.perf_counter,
) -> BatchSize:
    """The smallest power of two whose time a row is close to the best; `score` runs the model."""
    row_bytes = manifest.window * len(manifest.features) * np.dtype(manifest.input.dtype).itemsize
    largest = max(1, min(rows_max, _INPUT_BYTES_MAX // row_bytes))
    sizes = list(takewhile(lambda size: size <= largest, (1 << power for power in range(64))))
    deadline = clock() + seconds_max
    for draw in ROW_KINDS:
        rows = draw(manifest, np.random.default_rng(_SEED), sizes[-1], 1.0)
        try:
            score(rows[:1])
        except ModelOutputError:
            continue  # as in the trial run: another kind of rows may do
        found = _measure(rows, sizes, score, deadline, clock)
        if found:
            best = min(found.values())
            return BatchSize(min(size for size in found if found[size] <= best * _SLOWER_BY), found)
    return BatchSize(sizes[-1], {})


def _measure(
    rows: Tensor, sizes: list[int], score: Score, deadline: float, clock: Callable[[], float]
) -> dict[int, float]:
    """The least time a row for each size. In rounds, so that a disturbance does not settle on one size."""
    least: dict[int, float] = {}
    for _ in range(_ROUNDS):
        best, in_vain = 0.0, 0
        for size in sizes:
            # A size that was not tried yet is taken to cost as much a row as the best before it.
            if clock() + size * least.get(size, best) > deadline:
                return least
            try:
                seconds = _time(rows[:size], score, clock) / size
            except ModelOutputError:
                return least
            least[size] = min(seconds, least.get(size, seconds))
            in_vain = in_vain + 1 if best and least[size] * _SLOWER_BY > best else 0
            best = min(best or least[size], least[size])
            if in_vain == _PATIENCE:
                break
    return least


def _time(rows: Tensor, score: Score, clock: Callable[[], float]) -> float:
    """Seconds of one run: the least of as many as fit into a few milliseconds, at least one."""
    least, begin = float("inf"), clock()
    while True:
        before = clock()
        score(rows)
        after = clock()
        least = min(least, after - before)
        if after - begin >= _TRY_SECONDS:
            return least
