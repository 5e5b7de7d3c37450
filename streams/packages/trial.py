"""The trial run: does each row's score depend on that row alone, and do rows in equal rows out?

Rows are scored alone and in mixed batches, at several sizes and places and beside different companions.
Refused: a failing run, a wrong number of rows, and a row whose score changes with its companions while
batch size and place stay the same (DynamicQuantizeLinear, a mean or softmax over the batch axis), or by more
than rounding between sizes and places. Rounding between those (another kernel for one row; ReduceSum and
ReduceMean, which add a row in an order that depends on where it lies in memory) is reported, not refused:
`bit_equal` is then False.

Not guaranteed: a model that is bit-equal here need not be so on another CPU type or ONNX Runtime build.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt

from ...schemas.manifest import Manifest
from ..scoring.inference import ModelOutputError, Tensor
from ..scoring.scorer import BatchScorer
from .trialrows import ROW_KINDS

__all__ = ["TrialReport", "run_trial"]

_SEED: Final = 20_240_601
_SIZES: Final = (2, 3, 17, 64)
_PROBES: Final = 6
_MAGNITUDES: Final = (1.0, 1e-3, 1e3)
_ROUNDING_ROWS: Final = 64
_PIECES: Final = (1, 7)
_TOLERANCE: Final = {"float16": 2e-2, "float32": 1e-4}
_TOLERANCE_FINE: Final = 1e-9

Outcome = npt.NDArray[np.float64]
MakeRows = Callable[[int, float], Tensor]
"""So many rows, at such a magnitude, each time new ones: (count, window x features) in the model's dtype."""


@dataclass(frozen=True, slots=True)
class TrialReport:
    """`refusal` says what is wrong with the model, or is None; `bit_equal` holds over sizes and places."""

    refusal: str | None
    bit_equal: bool
    rows_scored: int


class _RefusedError(Exception):
    """Rows influence one another; the message says how much."""


def run_trial(manifest: Manifest, scorer: BatchScorer) -> TrialReport:
    """Score probes alone and among others. It is also the model's warm-up."""
    rng = np.random.default_rng(_SEED)
    trial = _Trial(scorer, _TOLERANCE.get(manifest.input.dtype, _TOLERANCE_FINE))
    failures: list[str] = []
    for draw in ROW_KINDS:
        try:
            tells = trial.run(partial(draw, manifest, rng))
        except ModelOutputError as failure:
            # A model that looks values up in a table fails on most numbers; another kind of rows may do.
            failures.append(str(failure))
        except _RefusedError as refused:
            return TrialReport(str(refused), bit_equal=False, rows_scored=trial.rows_scored)
        else:
            if tells:
                return TrialReport(None, trial.bit_equal, trial.rows_scored)
    # Nothing but NaN and infinity is no reason to refuse: real events may lie where the model does answer.
    refusal = failures[0] if len(failures) == len(ROW_KINDS) else None
    return TrialReport(refusal, refusal is None and trial.bit_equal, trial.rows_scored)


class _Trial:
    def __init__(self, scorer: BatchScorer, tolerance: float) -> None:
        self._scorer = scorer
        self._tolerance = tolerance
        self.bit_equal = True
        self.rows_scored = 0

    def run(self, rows: MakeRows) -> bool:
        """Whether any answer was a finite number; raises _RefusedError, or ModelOutputError of the model."""
        probes = rows(_PROBES, 1.0)
        alone = [self._outcome(probe[None, :])[0] for probe in probes]
        for size in _SIZES:
            for number, probe in enumerate(probes):
                self._beside_others(probe, alone[number], number % size, size, rows)
        self._rounding(rows(_ROUNDING_ROWS, 1.0))
        return any(np.isfinite(outcome[0]) for outcome in alone)

    def _beside_others(self, probe: Tensor, alone: Outcome, place: int, size: int, rows: MakeRows) -> None:
        answers = []
        for magnitude in _MAGNITUDES:
            batch = rows(size, magnitude)
            batch[place] = probe
            answers.append(self._outcome(batch)[place])
        if not all(_same(answers[0], answer) for answer in answers[1:]):
            spread = " / ".join(f"{answer[0]:.9g}" for answer in answers)
            raise _RefusedError(
                f"a row's score changes with the other rows of its batch ({spread} at {size} rows); "
                "each row's score must depend on that row alone"
            )
        self._compare(alone, answers[0])

    def _rounding(self, batch: Tensor) -> None:
        """Many rows at once against each alone and against odd pieces: what six probes may miss by luck."""
        together = self._outcome(batch)
        for size in _PIECES:
            for start in range(0, len(batch), size):
                piece = slice(start, start + size)
                for first, second in zip(self._outcome(batch[piece]), together[piece], strict=True):
                    self._compare(first, second)

    def _compare(self, first: Outcome, second: Outcome) -> None:
        if _same(first, second):
            return
        self.bit_equal = False
        if not np.allclose(first, second, rtol=self._tolerance, atol=self._tolerance, equal_nan=True):
            raise _RefusedError(
                f"a row scores {first[0]:.9g} in one batch and {second[0]:.9g} in another; "
                "each row's score must depend on that row alone"
            )

    def _outcome(self, matrix: Tensor) -> Outcome:
        """Score and contributions of each row, side by side: (rows, 1 or 1 + features)."""
        self.rows_scored += len(matrix)
        result = self._scorer.score(matrix)
        scores = result.scores[:, None]
        return scores if result.contributions is None else np.hstack([scores, result.contributions])


def _same(first: Outcome, second: Outcome) -> bool:
    return np.array_equal(first, second, equal_nan=True)
