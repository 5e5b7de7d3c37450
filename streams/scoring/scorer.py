"""A matrix of features to scores: one run of the model, the score rule.

Shapes: n rows, f features, w readings a window. `matrix` is (n, w * f), scaled and in the model's dtype, as
the decoder or the device history makes it; scores are float64 (n,); contributions are float64 (n, f) or None.
Each row's score depends on that row alone (the trial run checks the model).
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ...schemas.manifest import Manifest
from .inference import ModelOutputError, OnnxModel, Tensor

__all__ = ["BatchScorer", "Scores", "severity_of"]

Numbers = npt.NDArray[np.float64]

_RECONSTRUCTION: Final = "reconstruction-error"


@dataclass(frozen=True, slots=True)
class Scores:
    """What the model says of n rows."""

    scores: Numbers
    contributions: Numbers | None

    def part(self, start: int, stop: int) -> "Scores":
        """Of rows `start` to `stop`."""
        contributions = None if self.contributions is None else self.contributions[start:stop]
        return Scores(self.scores[start:stop], contributions)


class BatchScorer:
    """One package's model and rules, applied to a batch at a time."""

    def __init__(self, manifest: Manifest, model: OnnxModel) -> None:
        self._model = model
        self._rule = manifest.score
        self._input_name = manifest.input.name
        self._row_shape = manifest.input.shape
        self._feature_count = len(manifest.features)
        self._value_count = manifest.window * self._feature_count
        self._contributions_output = manifest.contributions_output
        outputs = [manifest.score.output]
        if manifest.contributions_output is not None and manifest.contributions_output not in outputs:
            outputs.append(manifest.contributions_output)
        self._outputs = outputs

    def score(self, matrix: Tensor) -> Scores:
        """Scores of `matrix`, one run of the model; raises ModelOutputError."""
        rows = matrix.shape[0]
        answers = dict(
            zip(
                self._outputs,
                self._model.run(self._outputs, self._input_name, matrix.reshape(rows, *self._row_shape)),
                strict=True,
            )
        )
        scores = self._scores_of(answers[self._rule.output], matrix)
        contributions = None
        if self._contributions_output is not None:
            contributions = self._flat(answers[self._contributions_output], self._contributions_output)
            if contributions.shape[1] != self._feature_count:
                raise ModelOutputError(
                    f"output {self._contributions_output!r} gives {contributions.shape[1]} contributions "
                    f"a row for {self._feature_count} features"
                )
        return Scores(scores, contributions)

    def _flat(self, answer: Tensor, output: str) -> Numbers:
        if answer.dtype.kind not in "fiub":
            raise ModelOutputError(f"output {output!r} holds {answer.dtype.name}, expected numbers")
        if answer.size == 0:
            raise ModelOutputError(f"output {output!r} has shape {list(answer.shape)}, which holds nothing")
        return answer.reshape(answer.shape[0], -1).astype(np.float64)

    def _scores_of(self, answer: Tensor, matrix: Tensor) -> Numbers:
        flat = self._flat(answer, self._rule.output)
        match self._rule.rule:
            case "column":
                if self._rule.column >= flat.shape[1]:
                    raise ModelOutputError(
                        f"output {self._rule.output!r} has {flat.shape[1]} columns, "
                        f"score.column is {self._rule.column} (the first is 0)"
                    )
                return np.array(flat[:, self._rule.column])
            case "max":
                return np.array(flat.max(axis=1))
            case "one-minus-max":
                return np.array(1.0 - flat.max(axis=1))
            case _:
                assert self._rule.rule == _RECONSTRUCTION
                if flat.shape[1] != self._value_count:
                    of = f"{self._feature_count} features"
                    if self._value_count > self._feature_count:
                        of = f"{self._value_count // self._feature_count} readings of {of}"
                    raise ModelOutputError(
                        f"output {self._rule.output!r} gives {flat.shape[1]} values a row, "
                        f"a reconstruction of {of} gives as many"
                    )
                # Infinity and NaN are judged by the caller: such a score is a dead letter, not a warning.
                with np.errstate(over="ignore", invalid="ignore"):
                    error = flat - matrix.reshape(flat.shape).astype(np.float64)
                    # What `mean` does, without its Python around it: a batch may hold one event.
                    return np.asarray(np.add.reduce(np.square(error), axis=1) / flat.shape[1])


def severity_of(manifest: Manifest, score: float) -> str:
    """The highest level whose bound `score` reaches; anomalies always have one."""
    assert math.isfinite(score)
    reached = [level.level for level in manifest.severity if score >= level.score_min]
    return (reached[-1] if reached else manifest.severity[0].level).value
