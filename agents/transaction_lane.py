"""The transactions of one input partition, one after the other.

Guarantees:
  batches are committed in the order in which they were put, and settled only when they are
  while one transaction is being committed, what comes collects into the next, of at most
  TRANSACTION_BYTES_MAX of input or a single batch
  after any error the lane ends, and tells; nothing behind the error is committed by it
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.types import TP

from ..streams.scoring.pipeline import Columns
from ..streams.transport.ledger import Range
from ..streams.transport.transactional_producer import TransactionalProducer
from .fitting import Fitting
from .outbox import SILENCE_SECONDS_MAX, BrokerState
from .oversize import TOO_LARGE, OversizeError
from .results import Parcels

__all__ = ["TRANSACTION_BYTES_MAX", "LaneWatch", "TransactionLane", "Work"]

TRANSACTION_BYTES_MAX: Final = 4 * 1024 * 1024
IDLE_SECONDS_MAX: Final = 1.0
"""How long a transaction stays open for a batch that may come; also at most a quarter of its time-out."""


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """One batch's results; without parcels only its offsets."""

    handed: Range
    parcels: Parcels
    on_committed: Callable[[], None]


class LaneWatch(Protocol):
    """What a lane asks and tells."""

    state: BrokerState

    def commits(self, offsets: Mapping[TP, int]) -> Mapping[TopicPartition, OffsetAndMetadata]:
        """Offsets as they are committed."""

    def note_committed(self, tp: TP, offset: int) -> None:
        """A transaction is through."""

    def failed(self, tp: TP, error: BaseException) -> None:
        """The lane ended."""


class TransactionLane:
    """One input partition: whatever waits goes out as one transaction, then the next."""

    def __init__(
        self,
        tp: TP,
        producer: TransactionalProducer,
        watch: LaneWatch,
        fitting: Fitting,
        transaction_seconds_max: float,
    ) -> None:
        """`producer` is open."""
        self._idle_seconds_max = min(IDLE_SECONDS_MAX, transaction_seconds_max / 4)
        self._tp = tp
        self._producer = producer
        self._watch = watch
        self._fitting = fitting
        self._waiting: deque[Work] = deque()
        self._wake = asyncio.Event()
        self._running = False
        self._under_way = 0
        self._likely: set[TopicPartition] = set()
        self._last: set[TopicPartition] = set()
        self._task = asyncio.create_task(self._run(), name=f"transactions {tp.topic}/{tp.partition}")

    @property
    def waiting(self) -> int:
        """Batches put and not committed yet."""
        return len(self._waiting) + self._under_way

    @property
    def busy(self) -> bool:
        """Whether anything waits or is under way."""
        return self._running or bool(self._waiting)

    def put(self, work: Work) -> None:
        """Queue for the next transaction."""
        self._waiting.append(work)
        self._wake.set()

    def commit(self, offset: int) -> "asyncio.Future[None]":
        """Done when `offset` is committed; cancelled with the lane."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.put(Work(Range(offset, 0, 0), (), lambda: None if done.done() else done.set_result(None)))
        self._task.add_done_callback(lambda _: done.cancel())
        return done

    async def close(self) -> None:
        """Stop and abort; what waits is dropped."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await self._producer.close()

    async def _run(self) -> None:
        try:
            while True:
                if not self._waiting:
                    await self._idle()
                await self._transact()
        except Exception as error:  # noqa: BLE001  whatever it is, the worker must not go on without this lane
            self._watch.failed(self._tp, error)

    def _take(self) -> list[Work]:
        taken = [self._waiting.popleft()]
        size_bytes = taken[0].handed.size_bytes
        while self._waiting and size_bytes + self._waiting[0].handed.size_bytes <= TRANSACTION_BYTES_MAX:
            taken.append(self._waiting.popleft())
            size_bytes += taken[-1].handed.size_bytes
        return taken

    async def _idle(self) -> None:
        """Wait for a batch. Where they follow one another, it finds a transaction that is open already."""
        self._wake.clear()
        if self._likely:
            try:
                async with asyncio.timeout(self._idle_seconds_max):
                    await self._producer.begin(self._likely)
                    await self._wake.wait()
            except TimeoutError:
                await self._watched(self._producer.abort())
        await self._wake.wait()

    async def _transact(self) -> None:
        """Step 1: open; 2: what waits by now goes in, with its offsets; 3: commit; 4: settle the batches."""
        self._running = True
        if not self._producer.has_begun:
            # Never with nothing, if it can be helped: of a group added first, aiokafka would wait 100 ms for
            # the end of the transaction before, of a partition 20 ms.
            await self._watched(self._producer.begin(self._likely or self._outputs(self._waiting)))
        works = self._take()
        self._under_way = len(works)
        offset = max(work.handed.end for work in works)
        batches = self._batches(works)
        self._fitting.begin()
        try:
            await self._watched(self._producer.commit(batches, self._watch.commits({self._tp: offset})))
        except TOO_LARGE:
            topic = self._producer.refused_topic
            if topic is None or not self._fitting.learn(topic):
                place = f"{self._tp.topic}/{self._tp.partition}"
                raise OversizeError(f"Kafka refuses the size of what became of events of {place}") from None
            raise
        self._fitting.committed()
        for work in works:
            work.on_committed()
        if batches:
            # What two in a row went to: an output that is rare would cost every transaction a marker.
            self._likely, self._last = self._last & batches.keys(), set(batches)
        self._watch.note_committed(self._tp, offset)
        self._running, self._under_way = False, 0

    def _outputs(self, works: Iterable[Work]) -> set[TopicPartition]:
        topics = {topic for work in works for topic, _ in work.parcels}
        return {TopicPartition(topic, self._tp.partition) for topic in topics}

    async def _watched(self, step: Coroutine[object, object, None]) -> None:
        """Await `step`, and say so if that takes long."""
        task = asyncio.create_task(step)
        try:
            done, _ = await asyncio.wait({task}, timeout=SILENCE_SECONDS_MAX)
            if not done:
                reason = f"silent for {SILENCE_SECONDS_MAX:g} s"
                place = self._tp.topic, self._tp.partition
                self._watch.state.down(place, reason, seconds_ago=SILENCE_SECONDS_MAX)
            await task
        finally:
            task.cancel()

    def _batches(self, works: Sequence[Work]) -> dict[TopicPartition, Iterator[BatchBuilder]]:
        by_topic: dict[str, list[Columns]] = {}
        for work in works:
            for topic, columns in work.parcels:
                by_topic.setdefault(topic, []).append(columns)
        return {
            TopicPartition(topic, self._tp.partition): self._fitting.batches(self._producer, topic, parcels)
            for topic, parcels in by_topic.items()
        }
