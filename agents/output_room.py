"""Room for results: output partitions that input partitions of a growing topic need.

Guarantee: when `make` returns, every output topic has as many partitions as were asked for, and the producer
knows them. An absent broker only delays.
"""

import asyncio
from collections.abc import Callable, Collection
from typing import Final

from aiokafka.errors import KafkaError

from ..streams.transport.producer import BatchProducer
from .admin import connect_admin, ensure_topics, site_topics
from .errors import BrokerAbsentError, is_passing
from .settings import Settings

__all__ = ["OutputRoom"]

_RETRY_SECONDS: Final = 0.5
_SETTLE_SECONDS: Final = 0.1


class OutputRoom:
    """The output topics of one worker."""

    def __init__(
        self, settings: Settings, outputs: Collection[str], producer: Callable[[], BatchProducer]
    ) -> None:
        self._settings = settings
        self._outputs = outputs
        self._producer = producer
        self._known = 0

    async def make(self, partitions: int) -> None:
        """Extend what is short; raises TopicError when that is refused."""
        while self._known < partitions:
            try:
                # Again until the producer, which asks any broker, has heard of them too.
                await self._make(partitions)
            except (BrokerAbsentError, KafkaError) as error:
                if not is_passing(error):
                    raise
                await asyncio.sleep(_RETRY_SECONDS)

    async def _make(self, partitions: int) -> None:
        if await self._has_room(partitions):
            self._known = partitions
            return
        async with connect_admin(self._settings.kafka_bootstrap) as admin:
            await ensure_topics(admin, site_topics(self._settings))
        await asyncio.sleep(_SETTLE_SECONDS)

    async def _has_room(self, partitions: int) -> bool:
        producer = self._producer()
        for topic in self._outputs:
            if not await producer.has_partitions(topic, partitions):
                return False
        return True
