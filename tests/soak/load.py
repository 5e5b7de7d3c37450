"""The soak's load: good events, hostile ones among them, late and repeated ones when told so.

What Kafka acknowledged is noted by position; a batch whose acknowledgement never came may or may not be in
the topic, and is then judged by what the topic holds.
"""

from __future__ import annotations

import asyncio
import random
import zlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import orjson
from aiokafka import AIOKafkaProducer, ConsumerRecord
from aiokafka.errors import KafkaError

from ..fuzz_bytes import FuzzedRecords
from ..integration.pipeline_run import BAD
from ..site_events import EventSource
from .ledger import Event, Kind, Position

HOSTILE_KEY = b"hostile "
FUZZED_KEY = b"fuzzed "
HOSTILE_SHARE = 0.05
LARGE_BYTES = 32 * 1024
LARGE_SHARE = 0.001  # of the hostile ones: megabytes each
ANOMALOUS_ABOVE = 20.0
CHUNKS_A_SECOND = 10
HISTORY_MAX = 5_000

Record = tuple[bytes | None, bytes | None]


class MixedLoad:
    """Publishes until told to stop; `acknowledged` is taken and emptied by whoever judges."""

    def __init__(
        self,
        open_producer: Callable[[], AbstractAsyncContextManager[AIOKafkaProducer]],
        topic: str,
        seed: int,
        events_per_second: int,
    ) -> None:
        self._open_producer = open_producer
        self._topic = topic
        self._random = random.Random(seed)
        self._source = EventSource(seed=seed, devices=40)
        self._fuzzed = FuzzedRecords(seed)
        self._chunk = max(1, events_per_second // CHUNKS_A_SECOND)
        self._history: list[Record] = []
        small = {name: value for name, (value, _) in BAD.items() if len(value or b"") < LARGE_BYTES}
        self._small = [(HOSTILE_KEY + name.encode(), value) for name, value in small.items()]
        self._large = [
            (HOSTILE_KEY + name.encode(), value) for name, (value, _) in BAD.items() if name not in small
        ]
        self._unsent = self._random.sample(self._small + self._large, len(BAD))
        self.disordered = False
        self.stopping = False
        self.published = 0
        self.unanswered = 0
        self.acknowledged: list[Position] = []

    async def run(self) -> None:
        """A tenth of a second's events at a time; waits while the broker is away.

        An idempotent producer that gave a batch up takes nothing more: another one goes on.
        """
        while not self.stopping:
            try:
                async with self._open_producer() as producer:
                    await self._publish(producer)
            except KafkaError:
                self.unanswered += 1
                await asyncio.sleep(1 / CHUNKS_A_SECOND)

    async def _publish(self, producer: AIOKafkaProducer) -> None:
        while not self.stopping:
            started = asyncio.get_running_loop().time()
            sent = [await producer.send(self._topic, value, key=key) for key, value in self._records()]
            for answer in await asyncio.gather(*sent, return_exceptions=True):
                if isinstance(answer, BaseException):
                    self.unanswered += 1
                    continue
                self.acknowledged.append((answer.partition, answer.offset))
                self.published += 1
            spent = asyncio.get_running_loop().time() - started
            await asyncio.sleep(max(0.0, 1 / CHUNKS_A_SECOND - spent))

    def _records(self) -> list[Record]:
        """Each place is a hostile event's with HOSTILE_SHARE, half of those made up of random bytes."""
        records: list[Record] = []
        for record in self._source.take(self._chunk):
            if self._random.random() < HOSTILE_SHARE:
                records.append(self._hostile())
            records.append(record)
        if self.disordered:
            repeated = self._random.choices(self._history or records, k=len(records) // 3)
            records += repeated
            self._random.shuffle(records)
        else:
            self._history = (self._history + records)[-HISTORY_MAX:]
        return records

    @property
    def kinds_unsent(self) -> list[str]:
        """Hostile inputs that no event was yet."""
        return [key.removeprefix(HOSTILE_KEY).decode() for key, _ in self._unsent]

    def _hostile(self) -> Record:
        """Each kind once, then any: large ones are rare."""
        if self._unsent:
            return self._unsent.pop()
        if self._random.random() < 0.5:
            key, value = self._fuzzed.one()
            return FUZZED_KEY + (key or b""), value
        large = self._random.random() < LARGE_SHARE
        return self._random.choice(self._large if large else self._small)


def event_of(record: ConsumerRecord) -> Event:
    """What must become of a record of the events topic, by its key and value alone."""
    key, value = record.key or b"", record.value or b""
    if key.startswith(HOSTILE_KEY):
        return Event(Kind.HOSTILE, zlib.crc32(value))
    if key.startswith(FUZZED_KEY):
        return Event(Kind.ANY, zlib.crc32(value))
    event = orjson.loads(value)
    anomalous = event["readings"]["flow"] > ANOMALOUS_ABOVE
    return Event(Kind.ANOMALOUS if anomalous else Kind.NORMAL, (event["device"], event["time"]))
