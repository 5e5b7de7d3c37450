"""Rest periods: after an anomaly of a device its next ones are none, for a time.

A device rests at an event if the last anomaly before it in the log lies less than `rest_ms` from it by event
time, before or after: a device's clock that was wrong once silences nothing for longer than that.

Which anomaly is the last depends on the one before, and so on without end. Therefore all rests of a
partition end where a new stretch of offsets begins, at the multiples of `stretch_offsets`: a decision depends
on its own stretch alone, and an anomaly that goes on is told once more in each. docs/adr has the reasons.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["RestPeriods"]


class RestPeriods:
    """Devices at rest in one partition; holds one number for each anomaly's device of the stretch."""

    def __init__(self, *, rest_ms: float, stretch_offsets: int) -> None:
        self._rest_ms = rest_ms
        self._stretch_offsets = stretch_offsets
        self._stretch = -1
        self._alarm_times: dict[str, int] = {}

    def resting(
        self,
        rows: Iterable[int],
        devices: Sequence[str],
        times_ms: Sequence[int],
        offsets: npt.NDArray[np.int64],
    ) -> list[int]:
        """Those of `rows`, all above the threshold and in the order of offsets, whose device rests."""
        at_rest = []
        for row in rows:
            stretch = int(offsets[row]) // self._stretch_offsets
            if stretch != self._stretch:
                self._stretch = stretch
                self._alarm_times.clear()
            device, time_ms = devices[row], times_ms[row]
            last = self._alarm_times.get(device)
            if last is not None and abs(time_ms - last) < self._rest_ms:
                at_rest.append(row)
            else:
                self._alarm_times[device] = time_ms
        return at_rest
