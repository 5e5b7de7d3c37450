"""A worker's health, as `/healthz` and `/readyz` show it: told by loop and watch, asked by HTTP threads.

Alive: `streams/liveness.py` decides; a worker that has not begun to work is alive. Waiting for an absent
broker is alive as well: a restart would find no broker either.
Ready: once topics are checked, the model is warm and the group is joined, in this order, until it stops.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ..streams.liveness import Verdict

__all__ = ["Health", "Report", "Step"]


class Step(StrEnum):
    """What comes before work, in this order."""

    TOPICS = "topics"
    WARM = "warm"
    GROUP = "group"


_BEFORE: Final = {
    Step.TOPICS: "waiting for Kafka to check its topics",
    Step.WARM: "making the agent, its model is not warm yet",
    Step.GROUP: "joining the group",
}


@dataclass(frozen=True, slots=True)
class Report:
    """An answer: whether all is well, and the JSON to show."""

    good: bool
    body: dict[str, object]


class Health:
    """Whole values are put in place of whole values, so any thread may ask at any time."""

    def __init__(self) -> None:
        self._next: Step | None = Step.TOPICS
        self._stopping = False
        self._verdict: Verdict | None = None

    def passed(self, step: Step) -> None:
        """`step` is done; they come in order."""
        assert step is self._next, f"{step} comes before {self._next}"
        steps = list(Step)
        self._next = next(iter(steps[steps.index(step) + 1 :]), None)

    def stopping(self) -> None:
        """The worker lets go of its work."""
        self._stopping = True

    def judged(self, verdict: Verdict) -> None:
        """The watch's newest verdict."""
        self._verdict = verdict

    def liveness(self) -> Report:
        """For `/healthz`."""
        verdict = self._verdict
        if verdict is None:
            step = self._next
            return Report(True, {"alive": True, "why": _BEFORE[step] if step is not None else "just started"})
        return Report(
            verdict.alive,
            {
                "alive": verdict.alive,
                "why": verdict.why,
                "silent_seconds": round(verdict.silent_seconds, 1),
            },
        )

    def readiness(self) -> Report:
        """For `/readyz`: `missing` are the steps that are still to come."""
        step = self._next
        steps = list(Step)
        missing = [] if step is None else [later.value for later in steps[steps.index(step) :]]
        ready = step is None and not self._stopping
        why = "stopping" if self._stopping else "at work" if step is None else _BEFORE[step]
        return Report(ready, {"ready": ready, "why": why, "missing": missing})
