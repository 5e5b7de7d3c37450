"""A drill on a running site: the uplink cut, a wait, the uplink restored, everything verified and counted.

In order:
  1. a word to hold the uplink goes to `audit`; the bridge obeys and says so
  2. wait; nothing may leave meanwhile
  3. a word to let go; the bridge says so
  4. wait until the bridge has passed everything that was in the store by then
  5. verify the store, count the receipt of what was found since the cut, and write it to `audit`
The hold ends by itself a while after it should, so that a drill that dies never leaves the uplink cut. Needs
Kafka alone: no root, no firewall, no access to the bridge's machine.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from ..schemas.records import HoldRecord, ReceiptRecord
from ..streams.delivery.policy import Policy
from ..streams.scoring.codec import encode
from .admin import connect_admin
from .departures import AUDIT_PARTITION
from .errors import BrokerAbsentError, FarshoreError
from .lag_commits import committed_offsets, partitions_by_topic
from .settings import Settings
from .store_receipt import StoreReceipt, count_store
from .store_selection import StoreSelection, decoded
from .store_verify import verify_store
from .topic_reader import TopicReader, open_reader

__all__ = ["MARGIN_SECONDS", "DrillResult", "run_drill"]

ANSWER_SECONDS_MAX: Final = 30.0
MARGIN_SECONDS: Final = 60.0
"""How much longer than the cut the bridge would hold, should the drill die."""

_LOOK_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class DrillResult:
    """What was seen. `left_while_cut` counts anomalies, `seconds_to_drain` is from the word to let go."""

    id: str
    cut_seconds: float
    found_since_cut: StoreReceipt
    left_while_cut: int
    seconds_to_drain: float
    damaged: int

    @property
    def passed(self) -> bool:
        """Whether nothing left, nothing is lost and nothing is damaged."""
        return self.found_since_cut.adds_up and self.left_while_cut == 0 and self.damaged == 0

    def as_dict(self) -> dict[str, Any]:  # JSON
        """As `--json` prints it."""
        return asdict(self) | {"passed": self.passed}


async def run_drill(
    settings: Settings,
    policy: Policy,
    *,
    cut_seconds: float,
    drain_seconds_max: float,
    say: Callable[[str], None],
) -> DrillResult:
    """The whole drill; raises FarshoreError when no bridge answers or the backlog does not drain in time."""
    name = uuid.uuid4().hex
    async with _writing(settings) as write, open_reader(settings.kafka_bootstrap) as reader:
        seen_to = (await reader.bounds(settings.topics.audit))[AUDIT_PARTITION][1]
        audit = _Audit(reader, settings.topics.audit, seen_to)
        began_ms = _now_ms()
        await write(_word(settings, name, cut_seconds + MARGIN_SECONDS))
        try:
            held = await audit.wait_for("held", name, "is a bridge running?")
            say(f"the uplink is cut for {cut_seconds:g} s")
            await asyncio.sleep(cut_seconds)
        finally:
            let_go = time.monotonic()
            await write(_word(settings, name, 0))
        released = await audit.wait_for("released", name, "it lets go by itself in a minute")
        say("the uplink is restored; waiting for what has gathered")
        await _drained(settings, reader, drain_seconds_max)
        seconds = time.monotonic() - let_go
        # What was on its way when the word came may be acknowledged until the send's own deadline.
        grace_ms = int(settings.uplink_send_seconds_max * 1000)
        left = await audit.left_between(held + grace_ms, released)
        say("verifying the store")
        damaged = (await verify_store(settings, policy)).damaged
        found = await count_store(settings, StoreSelection(since_ms=began_ms))
        result = DrillResult(name, cut_seconds, found, left, seconds, damaged)
        await write(_receipt(settings, result, began_ms))
    return result


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _word(settings: Settings, name: str, seconds: float) -> bytes:
    return encode(HoldRecord(kind="hold", site=settings.site, id=name, time=_now_ms(), seconds=seconds))


def _receipt(settings: Settings, result: DrillResult, began_ms: int) -> bytes:
    return encode(
        ReceiptRecord(
            kind="receipt",
            site=settings.site,
            id=result.id,
            time=_now_ms(),
            since=began_ms,
            adds_up=result.passed,
            counts=result.found_since_cut.as_dict(),
        )
    )


@asynccontextmanager
async def _writing(settings: Settings) -> AsyncIterator[Any]:  # a function that writes one audit record
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka_bootstrap, acks="all", enable_idempotence=True
    )
    try:
        await producer.start()
    except (KafkaError, OSError) as error:
        await producer.stop()
        raise BrokerAbsentError(f"no Kafka broker answers at {settings.kafka_bootstrap}: {error}") from None

    async def write(value: bytes) -> None:
        key = settings.site.encode()
        await producer.send_and_wait(settings.topics.audit, value, key=key, partition=AUDIT_PARTITION)

    try:
        yield write
    finally:
        await producer.stop()


class _Audit:
    """What stands in `audit` since the drill began."""

    def __init__(self, reader: TopicReader, topic: str, start: int) -> None:
        self._reader = reader
        self._topic = topic
        self._start = start

    async def wait_for(self, kind: str, name: str, hint: str) -> int:
        """The time, in epoch milliseconds, at which the bridge said `kind`."""
        deadline = time.monotonic() + ANSWER_SECONDS_MAX
        while True:
            async for told in self._records():
                if told.get("kind") == kind and told.get("id") == name:
                    return int(told["time"])
            if time.monotonic() > deadline:
                raise FarshoreError(f"no bridge said {kind!r} within {ANSWER_SECONDS_MAX:g} s; {hint}")
            await asyncio.sleep(_LOOK_SECONDS)

    async def left_between(self, since_ms: int, until_ms: int) -> int:
        """How many anomalies left in that time."""
        return sum(
            [
                int(told["count"])
                async for told in self._records()
                if told.get("kind") == "departed" and since_ms <= int(told["time"]) < until_ms
            ]
        )

    async def _records(self) -> AsyncIterator[dict[str, Any]]:
        end = (await self._reader.bounds(self._topic))[AUDIT_PARTITION][1]
        span = {AUDIT_PARTITION: (self._start, end)}
        async for records in self._reader.records_between(self._topic, span):
            for record in records:
                told = decoded(record.value)
                if told is not None:
                    yield told


async def _drained(settings: Settings, reader: TopicReader, seconds_max: float) -> None:
    """Wait until the bridge has passed what is in the store now."""
    topic = settings.topics.anomalies
    ends = {number: end for number, (_, end) in (await reader.bounds(topic)).items()}
    deadline = time.monotonic() + seconds_max
    async with connect_admin(settings.kafka_bootstrap) as admin:
        parts = (await partitions_by_topic(admin, {topic})).get(topic, [])
        while True:
            committed = await committed_offsets(admin, settings.bridge_group, parts)
            left = sum(max(0, ends[part.partition] - (offset or 0)) for part, offset in committed.items())
            if left == 0:
                return
            if time.monotonic() > deadline:
                raise FarshoreError(f"after {seconds_max:g} s {left} anomalies still wait; is the line up?")
            await asyncio.sleep(_LOOK_SECONDS)
