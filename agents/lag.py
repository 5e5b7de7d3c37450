"""Keeps the lag metrics current, in every worker, so that a dead worker's lag stays visible.

Guarantees
- One pass every `interval_seconds`, counted from the end of the last one; a failing pass never ends the loop.
- While no broker answers the last values stay, their age in `farshore_consumer_lag_read_timestamp_seconds`;
  two lines are logged an outage, however long it is. A broker that is still making its group coordinator is
  no outage for COORDINATOR_SECONDS_MAX.
- A group or partition that is gone loses its series with the next pass that succeeds.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from . import metrics
from .lag_reader import (
    CoordinatorNotReadyError,
    LagReader,
    LagUnreadableError,
    PartitionLag,
    WatchedGroups,
)
from .settings import Settings

__all__ = ["LagExporter", "LagReader", "LagUnreadableError", "PartitionLag", "WatchedGroups"]

COORDINATOR_SECONDS_MAX: Final = 30.0

log = logging.getLogger(__name__)


class LagExporter:
    """A service: `run()` until cancelled."""

    def __init__(
        self,
        bootstrap: str,
        watched: WatchedGroups,
        *,
        interval_seconds: float,
        on_read: Callable[[Sequence[PartitionLag]], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_read` hears of every successful pass, after the metrics are set."""
        self._reader = LagReader(bootstrap, watched)
        self._interval_seconds = interval_seconds
        self._exported: set[tuple[str, str, str]] = set()
        self._failing = False
        self._on_read = on_read
        self._clock = clock
        self._unready_since: float | None = None

    @classmethod
    def of(
        cls, settings: Settings, on_read: Callable[[Sequence[PartitionLag]], None] | None = None
    ) -> "LagExporter":
        """The exporter that `settings` ask for."""
        return cls(
            settings.kafka_bootstrap,
            WatchedGroups.of(settings),
            interval_seconds=settings.lag_interval_seconds,
            on_read=on_read,
        )

    async def run(self) -> None:
        """Measure and export at the interval until cancelled."""
        try:
            while True:
                await self.export_once()
                await asyncio.sleep(self._interval_seconds)
        finally:
            await self._reader.close()

    async def export_once(self) -> bool:
        """One pass; whether it succeeded. Connects at the first; `close()` when `run()` is not used."""
        try:
            lags = await self._reader.read()
        except CoordinatorNotReadyError as error:
            if self._unready_since is None:
                self._unready_since = self._clock()
            if self._clock() - self._unready_since >= COORDINATOR_SECONDS_MAX:
                self._note_failure(str(error))
            return False
        except LagUnreadableError as error:
            self._note_failure(str(error))
            return False
        except Exception as error:  # noqa: BLE001  the loop outlives whatever a client library may raise
            self._note_failure(f"{type(error).__name__}: {error}")
            return False
        self._unready_since = None
        self._export(lags)
        if self._on_read is not None:
            self._on_read(lags)
        if self._failing:
            self._failing = False
            log.warning("consumer lag is read again")
        return True

    async def close(self) -> None:
        """Close the connections to the broker."""
        await self._reader.close()

    def _note_failure(self, reason: str) -> None:
        if not self._failing:
            self._failing = True
            log.warning("consumer lag cannot be read, the last values stay: %s", reason)

    def _export(self, lags: tuple[PartitionLag, ...]) -> None:
        current = set()
        for entry in lags:
            labels = (entry.group, entry.topic, str(entry.partition))
            current.add(labels)
            metrics.CONSUMER_LAG_RECORDS.labels(*labels).set(entry.lag.records)
            metrics.CONSUMER_LAG_SECONDS.labels(*labels).set(entry.lag.seconds)
            metrics.CONSUMER_LAG_BYTES.labels(*labels).set(entry.lag.bytes)
        for labels in self._exported - current:
            for gauge in (
                metrics.CONSUMER_LAG_RECORDS,
                metrics.CONSUMER_LAG_SECONDS,
                metrics.CONSUMER_LAG_BYTES,
            ):
                gauge.remove(*labels)
        self._exported = current
        metrics.CONSUMER_LAG_READ_TIMESTAMP.set(time.time())
