"""Delivers the `audit` records that tell of a loss: what a quota took is known at home before it is missed.

Guarantee: a notice leaves after its record stands in `audit`, at least once and under one id, since a place
is kept there by commits; only what the policy lets leave is in it.
"""

import asyncio
import logging
from collections.abc import Callable

from aiokafka.errors import KafkaError

from ..streams.delivery.policy import Policy
from .departures import AUDIT_PARTITION, Departure, Outcomes
from .errors import FarshoreError
from .outbox import Outbox
from .sender import Sender
from .settings import Settings
from .store_keeper import KEEPER_GROUP_SUFFIX
from .store_selection import decoded
from .topic_reader import TopicReader, open_reader

__all__ = ["Notices"]

log = logging.getLogger(__name__)


class Notices:
    """A service beside the bridge: `run()` until cancelled."""

    def __init__(
        self,
        settings: Settings,
        sender: Sender,
        policy: Policy,
        outbox: Outbox,
        owned: Callable[[], frozenset[int]],
    ) -> None:
        """`owned` are this bridge's partitions of the store: of several bridges one sends notices."""
        self._owned = owned
        self._settings = settings
        self._sender = sender
        self._policy = policy
        self._outbox = outbox

    async def run(self) -> None:
        """Look for new records at the keeper's interval until cancelled."""
        while True:
            try:
                if AUDIT_PARTITION in self._owned():
                    await self._look()
            except Exception as error:  # noqa: BLE001  deliveries go on whatever stands in the way of notices
                known = isinstance(error, (FarshoreError, KafkaError, OSError))
                log.log(
                    logging.DEBUG if known else logging.ERROR,
                    "notices cannot be sent, trying again: %s: %s",
                    type(error).__name__,
                    error,
                )
            await asyncio.sleep(self._settings.store_interval_seconds)

    async def _look(self) -> None:
        settings = self._settings
        async with open_reader(
            settings.kafka_bootstrap, settings.bridge_group + KEEPER_GROUP_SUFFIX
        ) as reader:
            await self._deliver_new(reader)

    async def _deliver_new(self, reader: TopicReader) -> None:
        topic = self._settings.topics.audit
        start, end = (await reader.bounds(topic))[AUDIT_PARTITION]
        place = max(start, await reader.place(topic, AUDIT_PARTITION) or 0)
        passed = place
        async for records in reader.records_between(topic, {AUDIT_PARTITION: (place, end)}):
            for record in records:
                told = decoded(record.value)
                if told is not None and told.get("kind") == "dropped":
                    await self._deliver(Departure(str(told["id"]).encode(), self._policy.notice(told), None))
            passed = records[-1].offset + 1
        if passed > place:
            await reader.keep_place(topic, AUDIT_PARTITION, passed)

    async def _deliver(self, notice: Departure) -> None:
        outcomes = Outcomes(self._settings.site, AUDIT_PARTITION, self._policy)
        await self._sender.deliver_all([notice], AUDIT_PARTITION, outcomes)
        # Its own record of leaving; it is no anomaly and has no place in `deliveries`.
        if len(outcomes.audit):
            await self._outbox.put_all([(self._settings.topics.audit, AUDIT_PARTITION, outcomes.audit)])
