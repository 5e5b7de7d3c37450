"""Obeys the words to hold the uplink and to let it go, which stand in `audit`.

Guarantees: the newest word counts; a hold ends by itself after the seconds it names, counted from when it was
written, and never later than HOLD_SECONDS_MAX after; that it began and ended is written to `audit`. A bridge
that starts in the middle obeys what is left of it. Without a broker nothing new is heard and a hold runs out.
"""

import asyncio
import logging
import time
from typing import Final

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from ..schemas.records import HoldRecord
from ..streams.delivery.hold import HOLD_SECONDS_MAX
from ..streams.scoring.codec import encode
from ..streams.scoring.pipeline import Columns
from .departures import AUDIT_PARTITION
from .outbox import Outbox
from .sender import Sender
from .settings import Settings
from .store_selection import decoded

__all__ = ["HoldFollower"]

log = logging.getLogger(__name__)

_POLL_MS: Final = 1_000
_FETCH_WAIT_MS: Final = 5_000
_RETRY_SECONDS: Final = 5.0
_MARK: Final = b'"kind":"hold"'


class HoldFollower:
    """A service beside the bridge: `run()` until cancelled."""

    def __init__(self, settings: Settings, sender: Sender, outbox: Outbox) -> None:
        self._settings = settings
        self._sender = sender
        self._outbox = outbox
        self._held: str | None = None

    async def run(self) -> None:
        """Follow `audit` until cancelled; an absent broker only delays."""
        while True:
            consumer = AIOKafkaConsumer(
                bootstrap_servers=self._settings.kafka_bootstrap,
                enable_auto_commit=False,
                isolation_level="read_committed",
                auto_offset_reset="latest",
                fetch_max_wait_ms=_FETCH_WAIT_MS,
            )
            try:
                await consumer.start()
                await self._follow(consumer)
            except Exception as error:  # noqa: BLE001  deliveries go on whatever stands in the way of drills
                level = logging.DEBUG if isinstance(error, (KafkaError, OSError)) else logging.ERROR
                log.log(level, "audit cannot be followed: %s: %s", type(error).__name__, error)
            finally:
                await consumer.stop()
            await self._expire()
            await asyncio.sleep(_RETRY_SECONDS)

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        part = TopicPartition(self._settings.topics.audit, AUDIT_PARTITION)
        consumer.assign([part])
        since_ms = int((time.time() - HOLD_SECONDS_MAX) * 1000)
        # The end first: a word that is written between the two questions is not to be missed.
        end = (await consumer.end_offsets([part]))[part]
        first = (await consumer.offsets_for_times({part: since_ms}))[part]
        consumer.seek(part, end if first is None else min(end, first.offset))
        while True:
            found = await consumer.getmany(part, timeout_ms=_POLL_MS)
            words = [record for record in found.get(part, ()) if record.value and _MARK in record.value]
            if words:
                await self._obey(words[-1])
            await self._expire()

    async def _obey(self, record: ConsumerRecord) -> None:
        word = decoded(record.value)
        if word is None or word.get("site") != self._settings.site:
            return
        seconds, name = word.get("seconds"), str(word.get("id"))
        if not isinstance(seconds, (int, float)):
            return
        age = max(0.0, time.time() - record.timestamp / 1000)
        left = min(float(seconds), HOLD_SECONDS_MAX) - age
        if left > 0 and self._held != name:
            log.warning("the uplink is held for %.0f s by drill %s", left, name)
            self._held = name
            self._sender.hold_for(left)
            await self._tell("held", name, left)
        elif left <= 0 and self._held is not None:
            self._sender.hold.end()
            await self._expire()

    async def _expire(self) -> None:
        if self._held is not None and self._sender.hold.wait_seconds() == 0:
            name, self._held = self._held, None
            log.warning("the uplink is let go after drill %s", name)
            await self._tell("released", name, 0)

    async def _tell(self, kind: str, name: str, seconds: float) -> None:
        site = self._settings.site
        record = HoldRecord(kind=kind, site=site, id=name, time=time.time_ns() // 1_000_000, seconds=seconds)
        columns = Columns([site.encode()], [encode(record)])
        await self._outbox.put_all([(self._settings.topics.audit, AUDIT_PARTITION, columns)])
