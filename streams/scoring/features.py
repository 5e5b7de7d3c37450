"""A batch's numbers to the tensor that the model is fed: scaled, in range, in the model's dtype.

Guarantees:
  a value reaches the model only if the input's dtype holds it once scaled: no infinity is made, nothing wraps
  scaling is done in float64 before the cast, so a raw value may be one that the dtype itself would not hold
  a whole dtype takes whole numbers (2.0 is one); with scaling it takes the nearest, as quantised models do
  every value is treated by itself, so a row's place in a batch cannot change it
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ...schemas.manifest import InputSpec
from .clean import Numbers

__all__ = ["FeatureTensor"]

Tensor = npt.NDArray[np.float64] | npt.NDArray[np.int64]


class FeatureTensor:
    """Makes matrices of shape (rows, features) in the model's dtype; `dtype_name` is NumPy's name for it."""

    def __init__(self, spec: InputSpec, feature_count: int) -> None:
        self._spec = spec
        self._dtype = np.dtype(spec.dtype)
        self._whole = self._dtype.kind in "iu"
        self._feature_count = feature_count
        self._scaling = None
        if spec.mean is not None and spec.std is not None:
            self._scaling = np.array(spec.mean, np.float64), np.array(spec.std, np.float64)
        self._limits = _limits(self._dtype, as_float=self._scaling is not None)
        self.dtype_name = self._dtype.name

    def empty(self) -> npt.NDArray[np.generic]:
        """A matrix of no rows."""
        return np.empty((0, self._feature_count), self._dtype)

    def matrix(self, numbers: Numbers) -> npt.NDArray[np.generic] | None:
        """JSON numbers, flat and row by row, as a matrix; None when one of them does not fit."""
        try:
            values = self._exact(numbers) if self._scaling is None else self._scaled(numbers, *self._scaling)
        except (OverflowError, ValueError):
            return None
        low, high = self._limits
        # NaN compares false, so this refuses it too.
        if values is None or not (values.min() >= low and values.max() <= high):
            return None
        return values.astype(self._dtype).reshape(-1, self._feature_count)

    def misfit(self, row: Sequence[float]) -> int:
        """The position of the first number of one row that does not fit; `matrix` must have refused it."""
        return next(position for position, number in enumerate(row) if not self._fits(position, number))

    def _fits(self, position: int, number: float) -> bool:
        low, high = self._limits
        try:
            if self._spec.mean is not None and self._spec.std is not None:
                scaled = (float(number) - self._spec.mean[position]) / self._spec.std[position]
                number = round(scaled) if self._whole else scaled
        except OverflowError:  # of round(infinity), or of a whole number that no float holds
            return False
        # Python compares whole and real numbers exactly, without a conversion.
        return low <= number <= high and (not self._whole or float(number).is_integer())

    def _exact(self, numbers: Numbers) -> Tensor | None:
        real = _as_float64(numbers)
        if not self._whole:
            return real
        # Whole numbers beyond 2**53 are exact only as such; fromiter cuts 1.5 to 1, hence the comparison.
        whole = np.fromiter(numbers, np.int64, len(numbers))
        return whole if np.array_equal(whole, real) else None

    def _scaled(
        self, numbers: Numbers, mean: npt.NDArray[np.float64], std: npt.NDArray[np.float64]
    ) -> Tensor:
        real = _as_float64(numbers).reshape(-1, self._feature_count)
        with np.errstate(over="ignore"):  # infinity is out of every range and refused by name
            scaled: npt.NDArray[np.float64] = (real - mean) / std
        return np.rint(scaled) if self._whole else scaled


def _as_float64(numbers: Numbers) -> npt.NDArray[np.float64]:
    return numbers if isinstance(numbers, np.ndarray) else np.fromiter(numbers, np.float64, len(numbers))


def _limits(dtype: np.dtype[np.generic], *, as_float: bool) -> tuple[float, float]:
    """The least and greatest value that `dtype` holds, finite; `as_float`, among what float64 holds."""
    if dtype.kind not in "iu":
        real = np.finfo(dtype.name)
        return float(real.min), float(real.max)
    whole = np.iinfo(dtype.name)
    low, high = int(whole.min), int(whole.max)
    if as_float and int(float(high)) > high:
        # 2**63 - 1 is no float64, and the nearest one, 2**63, would wrap.
        high = int(np.nextafter(float(high), 0.0))
    return low, high
