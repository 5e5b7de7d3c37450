"""What a soak shows at its end, as text that is Markdown too."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

from .ledger import Counts
from .vitals import Life


@dataclass(slots=True)
class FaultRow:
    """One kind of fault: how often, and the longest time from its end until all was scored and delivered."""

    name: str
    injected: int = 0
    worst_recovery_seconds: float = 0.0
    last_recovery_seconds: float = 0.0
    repeats: int = 0

    def note_recovery(self, seconds: float) -> None:
        """One more recovery."""
        self.last_recovery_seconds = seconds
        self.worst_recovery_seconds = max(self.worst_recovery_seconds, seconds)


@dataclass(slots=True)
class LifeRow:
    """The worker of a role that lived longest: at its first looks and at its last."""

    role: str
    seconds: float
    memory_mb_start: float
    memory_mb_end: float
    files_start: int
    files_end: int

    @classmethod
    def of(cls, life: Life) -> Self:
        """From its samples."""
        start, end = life.start, life.end
        return cls(life.role, life.seconds, start.memory_mb, end.memory_mb, start.files, end.files)


@dataclass(slots=True)
class SoakReport:
    """Figures and broken promises of one soak."""

    seed: int
    guarantee: str
    events_per_second: int = 0
    asked_seconds: float = 0.0
    seconds: float = 0.0
    rows: dict[str, FaultRow] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)
    hub_again: int = 0
    lives: list[LifeRow] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def row(self, name: str) -> FaultRow:
        """The row of a fault, new at its first time."""
        return self.rows.setdefault(name, FaultRow(name))

    def table(self) -> str:
        """For a terminal and for Markdown alike."""
        rows = [
            [row.name, str(row.injected or "–"), f"{row.worst_recovery_seconds:.1f}", str(row.repeats)]
            for row in self.rows.values()
        ]
        counts = self.counts
        worst = max((row.worst_recovery_seconds for row in self.rows.values()), default=0.0)
        figures = [
            ["faults injected", f"{sum(row.injected for row in self.rows.values())}"],
            ["events in", f"{counts.events:,}"],
            ["hostile among them", f"{counts.hostile:,}"],
            ["scored", f"{counts.scored:,}"],
            ["dead letters", f"{counts.dead_letters:,}"],
            ["anomalies", f"{counts.anomalies:,}"],
            ["duplicates in scored", f"{counts.scored_again:,}"],
            ["duplicates in dead-letters", f"{counts.dead_letters_again:,}"],
            ["anomalies written again under their key", f"{counts.anomalies_again:,}"],
            ["duplicates of what was committed", f"{counts.committed_again:,}"],
            ["duplicates at the hub", f"{self.hub_again:,}"],
            ["worst recovery, s", f"{worst:.1f}"],
        ]
        lives = [
            [
                {"score": "scorer", "bridge": "bridge"}[life.role],
                f"{life.seconds:.0f}",
                f"{life.memory_mb_start:.0f} → {life.memory_mb_end:.0f}",
                f"{life.files_start} → {life.files_end}",
            ]
            for life in self.lives
        ]
        return "\n\n".join(
            (
                _grid(["fault", "injected", "worst recovery, s", "duplicates"], rows),
                _grid(["figure", "value"], figures),
                _grid(["longest-lived", "seconds", "memory, MB", "file descriptors"], lives),
            )
        )

    def command(self) -> str:
        """What makes the same faults in the same order at the same rate."""
        return (
            f"make soak SECONDS={self.asked_seconds:.0f} RATE={self.events_per_second} "
            f"GUARANTEE={self.guarantee} SEED={self.seed}"
        )

    def verdict(self) -> str:
        """The last line."""
        what = f"{self.guarantee}, {self.seconds:.0f} s, SEED={self.seed}"
        if not self.broken:
            return f"soak: every promise held ({what})"
        return "\n".join([f"soak: {len(self.broken)} promises broken ({what})", *self.broken])


def _grid(head: list[str], rows: list[list[str]]) -> str:
    widths = [max(len(cell) for cell in column) for column in zip(head, *rows, strict=True)]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in lines
    )
