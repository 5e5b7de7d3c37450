"""Rows to try a model with, as it is fed them: scaled, in the model's dtype, a whole window each.

Guarantee: every value is finite and one that the dtype holds; the same generator state gives the same rows.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from ...schemas.manifest import Manifest
from ..scoring.inference import Tensor

__all__ = ["ROW_KINDS"]

_WHOLE_SPREAD: Final = 10.0
"""Whole numbers are drawn this much wider, so that rounding leaves several of them."""


def spread_rows(manifest: Manifest, rng: np.random.Generator, count: int, magnitude: float) -> Tensor:
    """(count, window x features) normal values around 0, with `magnitude` as their standard deviation."""
    return _held(manifest, rng.normal(size=_size(manifest, count)) * magnitude)


def positive_rows(manifest: Manifest, rng: np.random.Generator, count: int, magnitude: float) -> Tensor:
    """The same without signs, for models that take a logarithm or a root."""
    return _held(manifest, np.abs(rng.normal(size=_size(manifest, count)) * magnitude))


def binary_rows(manifest: Manifest, rng: np.random.Generator, count: int, magnitude: float) -> Tensor:
    """The same of zeros and ones, whatever the magnitude, for models that look values up in a table."""
    return _held(manifest, rng.integers(0, 2, size=_size(manifest, count)) * 1.0, spread=1.0)


ROW_KINDS: Final = (spread_rows, positive_rows, binary_rows)
"""From the most telling to the mildest."""


def _size(manifest: Manifest, count: int) -> tuple[int, int]:
    return count, manifest.window * len(manifest.features)


def _held(manifest: Manifest, values: npt.NDArray[np.floating], *, spread: float = _WHOLE_SPREAD) -> Tensor:
    dtype: np.dtype[np.generic] = np.dtype(manifest.input.dtype)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype.name)
        whole: Tensor = np.clip(np.rint(values * spread), limits.min, limits.max).astype(dtype)
        return whole
    largest = float(np.finfo(dtype.name).max)
    real: Tensor = np.clip(values, -largest, largest).astype(dtype)
    return real
