"""Keeps the store bounded: retires delivered anomalies, measures, and lets the quota act.

One look every `store_interval_seconds`, in order:
  1. how many bytes the brokers say the store takes; growth and time to full follow
  2. deliveries older than their retention: a tombstone for the anomaly, then one for its delivery record
  3. at the high-water mark the quota's policy
Guarantees: only what is acknowledged by the service, or was dropped by the quota, is retired, and what is
held back if that has a retention; what waits, also once more, or is set aside never is. A look reads what has
grown old since the last one (`store_retirement.py`).
A look that fails is told once and made again; it never ends the bridge. Of several bridges each looks after
its own partitions.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from ..schemas.records import Outcome
from ..streams.delivery.quota import Growth, bytes_to_drop, seconds_to_drain, seconds_to_full
from . import metrics
from .admin import connect_admin
from .errors import FarshoreError
from .lag_commits import committed_offsets, partitions_by_topic
from .log_bytes import bytes_on_disk
from .outbox import Outbox
from .settings import Settings
from .store_quota import QuotaKeeper
from .store_retirement import Retirement
from .topic_reader import open_reader

__all__ = ["KEEPER_GROUP_SUFFIX", "StoreKeeper"]

log = logging.getLogger(__name__)

GROWTH_SECONDS: Final = 3_600.0
DRAIN_SECONDS: Final = 300.0
KEEPER_GROUP_SUFFIX: Final = "-keeper"
"""Behind the bridge's group: the name under which places in `deliveries` and `audit` are kept."""

_HELD_SUFFIX: Final = "-held"
_GONE: Final = (Outcome.ACKNOWLEDGED, Outcome.DROPPED_BY_QUOTA)


class StoreKeeper:
    """A service beside the bridge: `run()` until cancelled."""

    def __init__(
        self,
        settings: Settings,
        outbox: Outbox,
        owned: Callable[[], frozenset[int]],
        on_dropped: Callable[[int, int, bytes], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._names = settings.topics
        self._outbox = outbox
        self._owned = owned
        self._clock = clock
        self._wall_clock = wall_clock
        self._growth = Growth(GROWTH_SECONDS)
        self._drain = Growth(DRAIN_SECONDS)
        # A drop just before a restart may not have shown its effect yet.
        self._dropped_at = clock()
        self._failing = False
        self._above_mark = False
        self._retirements = {
            "": Retirement(settings, outbox, _GONE, settings.store_retention_days, wall_clock=wall_clock)
        }
        if settings.store_held_retention_days is not None:
            self._retirements[_HELD_SUFFIX] = Retirement(
                settings,
                outbox,
                (Outcome.HELD_BACK,),
                settings.store_held_retention_days,
                wall_clock=wall_clock,
            )
        self.quota = QuotaKeeper(settings, outbox, on_dropped)
        quota = settings.store_quota_bytes
        metrics.STORE_QUOTA_BYTES.set(float("inf") if quota is None else quota)
        metrics.STORE_HIGH_WATER_BYTES.set(
            float("inf") if quota is None else quota * settings.store_high_water
        )
        metrics.STORE_TIME_TO_FULL.set(float("inf"))

    def note_waiting(self, waiting: float) -> None:
        """How many anomalies wait, as often as that is known."""
        self._drain.add(self._clock(), waiting)
        metrics.STORE_TIME_TO_DRAIN.set(seconds_to_drain(waiting, self._drain.per_second))

    async def run(self) -> None:
        """Look at the interval until cancelled."""
        while True:
            try:
                await self.look()
            except (FarshoreError, KafkaError, OSError) as error:
                self._note_failure(str(error) or type(error).__name__, None)
            except Exception as error:  # noqa: BLE001  deliveries go on whatever stands in the way of the keeper
                self._note_failure(f"{type(error).__name__}: {error}", error)
            else:
                self._failing = False
            await asyncio.sleep(self._settings.store_interval_seconds)

    def _note_failure(self, reason: str, fault: Exception | None) -> None:
        if not self._failing:
            # That the broker is away is told by those whom it hurts.
            level = logging.DEBUG if fault is None else logging.ERROR
            log.log(level, "the store cannot be looked after, trying again: %s", reason, exc_info=fault)
        self._failing = True

    async def look(self) -> None:
        """One look; raises BrokerAbsentError or KafkaError."""
        settings = self._settings
        async with connect_admin(settings.kafka_bootstrap) as admin:
            store_bytes = await self._measure(admin)
            owned = self._owned()
            await self._retire(owned, await self._committed(admin))
            await self._keep_quota(admin, owned, store_bytes)
        metrics.STORE_KEPT_TIMESTAMP.set(self._wall_clock())

    async def _measure(self, admin: AIOKafkaAdminClient) -> int:
        parts = await partitions_by_topic(admin, {self._names.anomalies, self._names.deliveries})
        sizes = await bytes_on_disk(
            admin, {topic: [part.partition for part in found] for topic, found in parts.items()}
        )
        store_bytes = sum(sizes.values())
        self._growth.add(self._clock(), store_bytes)
        metrics.STORE_BYTES.set(store_bytes)
        metrics.STORE_TIME_TO_FULL.set(
            seconds_to_full(store_bytes, self._settings.store_quota_bytes, self._growth.per_second)
        )
        return store_bytes

    async def _committed(self, admin: AIOKafkaAdminClient) -> dict[int, int | None]:
        parts = (await partitions_by_topic(admin, {self._names.anomalies})).get(self._names.anomalies, [])
        committed = await committed_offsets(admin, self._settings.bridge_group, parts)
        return {part.partition: offset for part, offset in committed.items()}

    async def _retire(self, owned: frozenset[int], committed: Mapping[int, int | None]) -> None:
        """What was delivered has one retention, what is held back another, if any; each has its own place."""
        group = self._settings.bridge_group + KEEPER_GROUP_SUFFIX
        for suffix, retirement in self._retirements.items():
            async with open_reader(self._settings.kafka_bootstrap, group + suffix) as reader:
                await retirement.look(reader, owned, committed)

    async def _keep_quota(self, admin: AIOKafkaAdminClient, owned: frozenset[int], store_bytes: int) -> None:
        settings = self._settings
        if settings.store_quota_bytes is None:
            return
        wanted = bytes_to_drop(
            store_bytes,
            settings.store_quota_bytes,
            high_water=settings.store_high_water,
            growth_per_second=self._growth.per_second,
            settle_seconds=settings.store_settle_seconds,
        )
        self._note_mark(store_bytes, above=wanted > 0)
        if wanted == 0 or settings.store_quota_policy == "keep-all":
            return
        if self._clock() - self._dropped_at < settings.store_settle_seconds:
            return
        committed = await self._committed(admin)
        mine = {partition: offset or 0 for partition, offset in committed.items() if partition in owned}
        if mine:
            async with open_reader(settings.kafka_bootstrap) as reader:
                await self.quota.drop(reader, mine, math.ceil(wanted * len(mine) / len(committed)))
        self._dropped_at = self._clock()

    def _note_mark(self, store_bytes: int, *, above: bool) -> None:
        if above and not self._above_mark:
            log.warning(
                "the store takes %d bytes, above the mark of its quota of %d; policy %s",
                store_bytes,
                self._settings.store_quota_bytes,
                self._settings.store_quota_policy,
            )
        elif self._above_mark and not above:
            log.info("the store is below the mark of its quota again, with %d bytes", store_bytes)
        self._above_mark = above
