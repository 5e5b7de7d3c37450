"""The trial run: does each row's score depend on that row alone, and do rows in equal rows out?

Rows are scored alone and in mixed batches, at several sizes and places and beside different companions.
Refused: a failing run, a wrong number of rows, and a row whose score changes with its companions while
batch size and place stay the same (DynamicQuantizeLinear, a mean or softmax over the batch axis), or by more
than rounding between batch sizes. Rounding between sizes (another kernel for one row) is reported, not
refused: `bit_equal` is then False.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ...schemas.manifest import Manifest
from ..scoring.inference import ModelOutputError, Tensor
from ..scoring.scorer import BatchScorer

__all__ = ["TrialReport", "run_trial"]

_SEED: Final = 20_240_601
_SIZES: Final = (2, 3, 17, 64)
_PROBES: Final = 6
_TOLERANCE: Final = {"float16": 2e-2, "float32": 1e-4}
_TOLERANCE_FINE: Final = 1e-9

Outcome = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TrialReport:
    """`refusal` says what is wrong with the model, or is None; `bit_equal` holds over batch sizes."""

    refusal: str | None
    bit_equal: bool
    rows_scored: int


def run_trial(manifest: Manifest, scorer: BatchScorer) -> TrialReport:
    """Score probes alone and among others. It is also the model's warm-up."""
    rng = np.random.default_rng(_SEED)
    probes = _rows(manifest, rng, _PROBES)
    rows_scored = 0
    bit_equal = True
    tolerance = _TOLERANCE.get(manifest.input.dtype, _TOLERANCE_FINE)
    try:
        alone = [_outcome(scorer, probe[None, :])[0] for probe in probes]
        rows_scored += len(probes)
        for size in _SIZES:
            for number, probe in enumerate(probes):
                place = number % size
                answers = [
                    _outcome(scorer, _among(probe, place, _companions(manifest, rng, size, magnitude)))[place]
                    for magnitude in (1.0, 1e-3, 1e3)
                ]
                rows_scored += size * len(answers)
                if not all(_same(answers[0], answer) for answer in answers[1:]):
                    return _refused(
                        f"a row's score changes with the other rows of its batch "
                        f"({_spread(answers)} at {size} rows), so results would depend on chance",
                        rows_scored,
                    )
                if not _same(alone[number], answers[0]):
                    bit_equal = False
                    if not np.allclose(
                        alone[number], answers[0], rtol=tolerance, atol=tolerance, equal_nan=True
                    ):
                        return _refused(
                            f"a row scores {alone[number][0]:g} alone, {answers[0][0]:g} among {size}",
                            rows_scored,
                        )
    except ModelOutputError as error:
        return _refused(str(error), rows_scored)
    return TrialReport(None, bit_equal, rows_scored)


def _refused(reason: str, rows_scored: int) -> TrialReport:
    return TrialReport(reason, bit_equal=False, rows_scored=rows_scored)


def _outcome(scorer: BatchScorer, matrix: Tensor) -> Outcome:
    """Score and contributions of each row, side by side: (rows, 1 or 1 + features)."""
    result = scorer.score(matrix)
    scores = result.scores[:, None]
    return scores if result.contributions is None else np.hstack([scores, result.contributions])


def _same(first: Outcome, second: Outcome) -> bool:
    return np.array_equal(first, second, equal_nan=True)


def _spread(answers: Sequence[Outcome]) -> str:
    return " / ".join(f"{answer[0]:g}" for answer in answers)


def _among(probe: Tensor, place: int, companions: Tensor) -> Tensor:
    companions[place] = probe
    return companions


def _companions(manifest: Manifest, rng: np.random.Generator, size: int, magnitude: float) -> Tensor:
    return _rows(manifest, rng, size, magnitude)


def _rows(manifest: Manifest, rng: np.random.Generator, count: int, magnitude: float = 1.0) -> Tensor:
    """Rows around the scaling's mean, as the model would meet them, spread by `magnitude`."""
    spec = manifest.input
    normal = rng.normal(size=(count, math.prod(spec.shape))) * magnitude
    if spec.mean is not None and spec.std is not None:
        normal = normal * np.array(spec.std) + np.array(spec.mean)
    dtype = np.dtype(spec.dtype)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return np.clip(np.rint(normal * 10), limits.min, limits.max).astype(dtype)
    return normal.astype(dtype)
