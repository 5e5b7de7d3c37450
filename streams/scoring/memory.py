"""What a package keeps of one partition's devices: windows for the model, medians after it, rests.

Guarantee: whatever is said of an event depends on the log at offsets in (offset - window_horizon, offset]
alone. Each of window, median and rest looks back over its share of the horizon and builds on the one before:
  a rest looks at anomalies of one share; an anomaly's score, a median, at scores of one share before it;
  each score, of a window, at readings of one share before that.
So reading again from `window_horizon` before the commit makes everything after the commit what it would have
been, bit for bit. docs/adr has the reasons.

An event enters its device's window in the order of the log, whatever its time says: a late one is the newest
reading, a repeated one a reading of its own. A dead letter for its own form is no reading. A reading whose
score is not finite stays in the window, which must not depend on what a model said, and is in no median.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ...schemas.manifest import Manifest
from .decoding import Decoded
from .history import DeviceHistory, reading_bytes
from .inference import Tensor
from .rest import RestPeriods

__all__ = ["PartitionMemory", "history_bytes_max"]

Offsets = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.float64]


def history_bytes_max(manifest: Manifest) -> int:
    """Bytes of one partition's arrays when every offset of the lookback holds a reading of another device.

    Names of devices and the rows of one batch come on top.
    """
    if manifest.window == 1 and manifest.median_of == 1:
        return 0
    features = len(manifest.features) if manifest.window > 1 else 0
    return manifest.lookback_offsets * reading_bytes(features, np.dtype(manifest.input.dtype)) * 5 // 4


class PartitionMemory:
    """The memory of one partition. For each batch: `append`, `inputs`, `follow`, `resting`, in order."""

    def __init__(self, manifest: Manifest) -> None:
        self._window = manifest.window
        self._median_of = manifest.median_of
        self._by_feature = manifest.input.by_feature
        lookback = manifest.lookback_offsets
        self._scores_from = lookback * ((manifest.median_of > 1) + (manifest.rest_seconds > 0))
        self._history = None
        if manifest.window > 1 or manifest.median_of > 1:
            self._history = DeviceHistory(
                lookback_offsets=lookback,
                feature_count=len(manifest.features) if manifest.window > 1 else 0,
                dtype=manifest.input.dtype,
            )
        self._rest = None
        if manifest.rest_seconds > 0:
            self._rest = RestPeriods(rest_ms=manifest.rest_seconds * 1000, stretch_offsets=lookback)
        self._last_offset = -1
        self._first = 0
        self._matrix: Tensor = np.empty((0, 0))
        self.cold: Mask = np.empty(0, np.bool_)

    @property
    def size_bytes(self) -> int:
        """Bytes of the arrays."""
        return 0 if self._history is None else self._history.size_bytes

    def follows(self, offset: int) -> bool:
        """Whether `offset` lies behind everything seen; if not, the log is read again, into a new memory."""
        return offset > self._last_offset

    def append(self, decoded: Decoded, offsets: Offsets, last_offset: int) -> None:
        """Take in a batch's accepted events; `last_offset` is the batch's, which may be of a dead letter."""
        self._last_offset = last_offset
        self._matrix = decoded.matrix
        self.cold = np.zeros(len(offsets), np.bool_)
        if self._history is not None:
            matrix = decoded.matrix if self._window > 1 else decoded.matrix[:, :0]
            self._first = self._history.append(decoded.devices, offsets, matrix)

    def first_scored(self, offsets: Offsets, live_from: int) -> int:
        """The first row that a score is needed of; earlier ones only stand in windows."""
        return int(np.searchsorted(offsets, live_from - self._scores_from, side="right"))

    def inputs(self, start: int, stop: int) -> Tensor:
        """What the model is fed of the batch's rows, (n, window x features); notes which are cold."""
        if self._window == 1 or self._history is None:
            return self._matrix[start:stop]
        windows, cold = self._history.windows(self._first + start, self._first + stop, self._window)
        self.cold[start:stop] = cold
        if self._by_feature:
            windows = windows.transpose(0, 2, 1)
        return windows.reshape(stop - start, -1)

    def follow(self, start: int, scores: Numbers) -> Numbers:
        """The scores that count, of the rows from `start` on, made of the model's `scores` of them."""
        if self._median_of == 1 or self._history is None:
            return scores
        first = self._first + start
        self._history.put_scores(first, scores)
        medians = self._history.medians(first, first + len(scores), self._median_of)
        medians[~np.isfinite(scores)] = np.nan
        return medians

    def resting(
        self, alarms: Mask, devices: Sequence[str], times_ms: Sequence[int], offsets: Offsets
    ) -> list[int]:
        """Rows of `alarms` that are none, because their device rests."""
        if self._rest is None:
            return []
        return self._rest.resting(np.flatnonzero(alarms).tolist(), devices, times_ms, offsets)
