"""Memory and file descriptors of worker processes over their lives, and whether they stay flat."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import psutil

# What a first backlog and a new thread may add after the first look; beyond it something grows.
GROWTH_SHARE_MAX = 0.25
GROWTH_MB_MAX = 32.0
GROWTH_FILES_MAX = 12
SAMPLES_MIN = 4
WARM_SAMPLES = 2

MEGABYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at a process."""

    at: float
    memory_mb: float
    files: int


@dataclass(slots=True)
class Life:
    """One process of a role, looked at when it had caught up."""

    role: str
    pid: int
    samples: list[Sample] = field(default_factory=list)

    def look(self) -> None:
        """Note what it uses now; a process that is gone is not looked at."""
        try:
            process = psutil.Process(self.pid)
            memory, files = process.memory_info().rss / MEGABYTE, process.num_fds()
            alive = process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return
        if not alive:
            return
        self.samples.append(Sample(time.monotonic(), memory, files))

    @property
    def seconds(self) -> float:
        """Between the first look and the last."""
        return self.samples[-1].at - self.samples[0].at if self.samples else 0.0

    @property
    def start(self) -> Sample:
        """The larger figures of its first looks."""
        return _largest(self.samples[:WARM_SAMPLES])

    @property
    def end(self) -> Sample:
        """The smaller figures of its last looks: what it does not give back."""
        last = self.samples[-WARM_SAMPLES:]
        return Sample(last[-1].at, min(s.memory_mb for s in last), min(s.files for s in last))

    def broken(self) -> list[str]:
        """What grew, one sentence each; a short life proves nothing."""
        if len(self.samples) < SAMPLES_MIN:
            return []
        start, end = self.start, self.end
        found = []
        if end.memory_mb > start.memory_mb * (1 + GROWTH_SHARE_MAX) + GROWTH_MB_MAX:
            found.append(
                f"the memory of a {self.role} grew from {start.memory_mb:.0f} to {end.memory_mb:.0f} MB"
            )
        if end.files > start.files + GROWTH_FILES_MAX:
            found.append(f"the file descriptors of a {self.role} grew from {start.files} to {end.files}")
        return found


def longest(lives: Iterable[Life], role: str) -> Life | None:
    """The longest life of a role."""
    return max(
        (life for life in lives if life.role == role and life.samples),
        key=lambda life: life.seconds,
        default=None,
    )


def _largest(samples: list[Sample]) -> Sample:
    return Sample(samples[0].at, max(s.memory_mb for s in samples), max(s.files for s in samples))
