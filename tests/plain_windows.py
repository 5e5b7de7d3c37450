"""What windows, medians and rests are, one event after the other with the whole log at hand."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import orjson

from farshore.schemas.manifest import Manifest

Found = dict[int, tuple[float, bool]]
"""Offset to score and anomaly."""


@dataclass(frozen=True)
class Event:
    """One record of a partition; without readings it is no event at all."""

    offset: int
    device: str
    time_ms: int
    readings: tuple[float, ...] | None

    @property
    def value(self) -> bytes:
        if self.readings is None:
            return b"{"
        return orjson.dumps({"device": self.device, "time": self.time_ms, "readings": self.readings})


ScoreWindow = Callable[[np.ndarray], float]
"""The model's score of (window, features) readings as they came, the oldest first."""


def plain_model(manifest: Manifest, log: Sequence[Event], score_window: ScoreWindow) -> Found:
    """Score and decision of each event of one partition; none where the score is not finite."""
    lookback = manifest.lookback_offsets or 1
    of_device: dict[str, list[Event]] = defaultdict(list)
    raw: dict[int, float] = {}
    alarms: dict[str, Event] = {}
    found: Found = {}
    for event in log:
        if event.readings is None:
            continue
        seen = of_device[event.device]
        seen.append(event)
        near = [
            other
            for other in seen[-max(manifest.window, manifest.median_of) :]
            if other.offset > event.offset - lookback
        ]
        window = near[-manifest.window :]
        window = [window[0]] * (manifest.window - len(window)) + window
        raw[event.offset] = score_window(np.array([other.readings for other in window]))
        if not math.isfinite(raw[event.offset]):
            continue
        scores = [raw[other.offset] for other in near[-manifest.median_of :]]
        score = float(np.median([number for number in scores if math.isfinite(number)]))
        above = score > manifest.threshold
        last = alarms.get(event.device)
        if above and manifest.rest_seconds and last is not None:
            same_stretch = last.offset // lookback == event.offset // lookback
            near_in_time = abs(event.time_ms - last.time_ms) < manifest.rest_seconds * 1000
            above = not (same_stretch and near_in_time)
        if above:
            alarms[event.device] = event
        found[event.offset] = (score, above)
    return found
