"""Looks whether the worker gets on, and ends the process if it does not: its supervisor starts it again.

Guarantees
- The verdict comes from a thread of its own: an agent that holds the event loop is seen and ended as well.
- A worker that is given up logs one line, stops in good order if its loop still turns, and ends with exit
  code 1 within STOP_SECONDS_MAX in any case.
- What waits is asked of Kafka, from outside of the consumer that may be stuck. An answer older than half the
  limit says nothing any more: while no broker answers, an empty-handed worker is alive.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Collection, Sequence
from time import monotonic
from typing import Final

from faust.types import TP

from ..streams.liveness import Liveness, Sighting, Tail, Verdict
from . import metrics
from .errors import StalledError
from .faust_app import WorkerApp
from .health import Health
from .lag_reader import PartitionLag

__all__ = ["STOP_SECONDS_MAX", "Watch"]

log = logging.getLogger(__name__)

STOP_SECONDS_MAX: Final = 12.0
"""Above the worker's own bound on a stop."""

_LOOK_SECONDS: Final = 0.5
_JUDGE_SECONDS: Final = 1.0
_HELD_LOOP_SECONDS_MAX: Final = 0.5
_EXIT_CODE: Final = 1


class Watch:
    """Over one app: `start` in its loop before it starts, `close` after it has stopped."""

    def __init__(self, app: WorkerApp, health: Health, *, group: str, seconds_max: float) -> None:
        self._app = app
        self._health = health
        self._group = group
        self._tails_seconds_max = seconds_max / 2
        self._liveness = Liveness(seconds_max, clock=monotonic)
        self._tails: Collection[Tail[TP]] = ()
        self._tails_read_at: float | None = None
        self._sighting = Sighting(0, None)
        self._over = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self._looking: asyncio.Task[None]

    def start(self) -> None:
        """Begin to look, and to judge from a thread."""
        self._loop = asyncio.get_running_loop()
        self._looking = asyncio.create_task(self._look_on(), name="watch")
        self._app.lag_listeners.append(self._note_lags)
        threading.Thread(target=self._judge_on, name="watch", daemon=True).start()

    def close(self) -> None:
        """The app has stopped; nothing is to be judged any more."""
        self._over.set()
        self._looking.cancel()

    def _note_lags(self, lags: Sequence[PartitionLag]) -> None:
        self._tails = [
            Tail(TP(entry.topic, entry.partition), entry.lag.records, entry.end)
            for entry in lags
            if entry.group == self._group
        ]
        self._tails_read_at = monotonic()

    # -- in the loop

    async def _look_on(self) -> None:
        with self._app.stopping_on_error():
            while True:
                self._sighting = self._look()
                await asyncio.sleep(_LOOK_SECONDS)

    def _look(self) -> Sighting:
        read_at = self._tails_read_at
        if read_at is None or monotonic() - read_at > self._tails_seconds_max:
            sighting = self._app.sighting(())
            # Without the log's end only what is in hand is known to wait.
            unknown = "no broker has told lately what waits" if sighting.waiting is None else None
            return Sighting(sighting.progress, sighting.waiting, sighting.pause or unknown)
        return self._app.sighting(self._tails)

    # -- in the thread

    def _judge_on(self) -> None:
        last: Sighting | None = None
        while not self._over.wait(_JUDGE_SECONDS):
            sighting = self._sighting
            held = sighting is last
            last = sighting
            if held:
                # The loop looks more often than it is asked: it stands still, so whatever it waits for waits.
                sighting = Sighting(sighting.progress, "the event loop is held")
            verdict = self._liveness.see(sighting)
            self._health.judged(verdict)
            metrics.SILENT_SECONDS.set(verdict.silent_seconds)
            if not verdict.alive:
                self._end(verdict, held=held)
                return

    def _end(self, verdict: Verdict, *, held: bool) -> None:
        log.error("stopping, to be started again: %s", verdict.why)
        self._loop.call_soon_threadsafe(self._app.end, StalledError(verdict.why))
        if not self._over.wait(_HELD_LOOP_SECONDS_MAX if held else STOP_SECONDS_MAX):
            os._exit(_EXIT_CODE)
