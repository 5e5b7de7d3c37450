"""The way out to Kafka: results in order, one batch in flight for each partition, retried until acknowledged.

Guarantees, for each topic and partition:
  records leave in the order in which they were put
  a parcel is done only when the broker has acknowledged its last record (acks=all)
  an absent broker delays, it never drops: the retry has no end, the waits between have (RETRY_SECONDS_MAX)
  a record that is too large is compressed, of a dead letter the value is cut; what never fits ends the worker
What waits is bounded by the transport, which hands out no more while too much is not settled.
"""

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from time import monotonic
from typing import Final

from aiokafka.errors import KafkaError
from aiokafka.producer.message_accumulator import BatchBuilder

from ..streams.scoring.pipeline import Columns
from ..streams.transport.producer import BatchProducer
from ..streams.transport.record_writer import append_records
from .errors import is_passing
from .oversize import TOO_LARGE, CutNotice, Runs, cuts, halves, oversize_error

__all__ = [
    "RETRY_SECONDS_MAX",
    "SILENCE_SECONDS_MAX",
    "BrokerState",
    "Outbox",
    "Settlement",
    "append_columns",
    "append_runs",
]

RETRY_SECONDS_MAX: Final = 5.0
SILENCE_SECONDS_MAX: Final = 5.0
"""How long an acknowledgement may take before the log says that it is missing."""

_RETRY_SECONDS_MIN: Final = 0.1

log = logging.getLogger(__name__)


class Settlement:
    """Counts parcels of one input batch and calls back when the last one is acknowledged."""

    __slots__ = ("_left", "_on_settled")

    def __init__(self, parcels: int, on_settled: Callable[[], None]) -> None:
        self._left = parcels
        self._on_settled = on_settled
        if parcels == 0:
            on_settled()

    def expect(self) -> None:
        """One parcel more than was known at first."""
        self._left += 1

    def parcel_done(self) -> None:
        """One parcel is acknowledged."""
        self._left -= 1
        if self._left == 0:
            self._on_settled()


@dataclass(slots=True)
class _Parcel:
    columns: Columns
    settlement: Settlement
    taken: int = 0


class Outbox:
    """Lanes to every output partition, opened as they are needed."""

    def __init__(
        self, producer: Callable[[], BatchProducer], on_fatal: Callable[[BaseException], None]
    ) -> None:
        self._producer = producer
        self._on_fatal = on_fatal
        self._lanes: dict[tuple[str, int], _Lane] = {}
        self._closed = False
        self.cut_notice = CutNotice()
        self.state = BrokerState()

    def put(self, topic: str, partition: int, columns: Columns, settlement: Settlement) -> None:
        """Queue a parcel; its settlement hears of it once the broker has it. Once closed: nothing."""
        if self._closed:
            return
        lane = self._lanes.get((topic, partition))
        if lane is None:
            lane = self._lanes[topic, partition] = _Lane(topic, partition, self)
        lane.put(_Parcel(columns, settlement))

    async def put_all(self, parcels: Sequence[tuple[str, int, Columns]]) -> None:
        """Queue parcels by topic and partition, all at once; returns when the broker has them all."""
        done = asyncio.Event()
        settlement = Settlement(len(parcels), done.set)
        for topic, partition, columns in parcels:
            self.put(topic, partition, columns, settlement)
        await done.wait()

    def pause(self) -> str | None:
        """Why waiting is meant: Kafka has not acknowledged what was given to it; None when it has."""
        parcels = sum(lane.waiting for lane in self._lanes.values())
        return f"waiting for Kafka to acknowledge {parcels} batches of results" if parcels else None

    async def send(self, builder: BatchBuilder, topic: str, partition: int) -> None:
        """One attempt; returns when acknowledged, raises KafkaError otherwise.

        The idempotent client below tries again by itself for as long as the broker is away.
        """
        producer = self._producer()
        sequence = producer.sequence(topic, partition)
        acknowledged = await producer.send_batch(builder, topic, partition)
        loop = asyncio.get_running_loop()
        silent = loop.call_later(SILENCE_SECONDS_MAX, self._note_silence, topic, partition)
        try:
            await acknowledged
        except TOO_LARGE:
            producer.take_back(topic, partition, sequence)
            raise
        finally:
            silent.cancel()

    def _note_silence(self, topic: str, partition: int) -> None:
        reason = f"silent for {SILENCE_SECONDS_MAX:g} s"
        self.state.down((topic, partition), reason, seconds_ago=SILENCE_SECONDS_MAX)

    @property
    def batch_bytes(self) -> int:
        """What a batch holds at most, unless a single record is larger."""
        return self._producer().batch_bytes

    def new_batch(self, *, compressed: bool = False) -> BatchBuilder:
        """An empty Kafka batch."""
        return self._producer().create_batch(compressed=compressed)

    def fail(self, error: BaseException) -> None:
        """A lane met an error that no retry mends."""
        self._on_fatal(error)

    async def close(self) -> None:
        """Stop all lanes; what is not acknowledged is not committed either and will be read again."""
        self._closed = True
        for lane in self._lanes.values():
            lane.task.cancel()
        await asyncio.gather(*(lane.task for lane in self._lanes.values()), return_exceptions=True)


class BrokerState:
    """Logs that the broker stopped or resumed acknowledging: two lines an outage, whatever its length.

    An outage begins with the first lane that fails and ends with the last one that is through again.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._since = 0.0
        self._failing: set[tuple[str, int]] = set()

    def down(self, lane: tuple[str, int], reason: str, *, seconds_ago: float = 0.0) -> None:
        """An attempt that began `seconds_ago` came to nothing so far."""
        if not self._failing:
            self._since = self._clock() - seconds_ago
            log.warning("Kafka does not acknowledge results (%s); trying on, nothing is lost", reason)
        self._failing.add(lane)

    def up(self, lane: tuple[str, int]) -> None:
        """An attempt succeeded."""
        if lane in self._failing:
            self._failing.remove(lane)
            if not self._failing:
                log.warning("Kafka acknowledges results again after %.1f s", self._clock() - self._since)

    def keep(self, lanes: Set[tuple[str, int]]) -> None:
        """Lanes that are not among these are somebody else's from now on, who tells of them."""
        for lane in self._failing - lanes:
            self.up(lane)


class _Lane:
    """One output partition: whatever waits goes out as one batch, then the next."""

    def __init__(self, topic: str, partition: int, outbox: Outbox) -> None:
        self._topic = topic
        self._partition = partition
        self._outbox = outbox
        self._waiting: deque[_Parcel] = deque()
        self._wake = asyncio.Event()
        self.task = asyncio.create_task(self._run(), name=f"outbox {topic}/{partition}")

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def put(self, parcel: _Parcel) -> None:
        self._waiting.append(parcel)
        self._wake.set()

    async def _run(self) -> None:
        try:
            while True:
                await self._wake.wait()
                while self._waiting:
                    await self._send_some()
                self._wake.clear()
        except Exception as error:  # noqa: BLE001  whatever it is, the worker must not go on without this lane
            self._outbox.fail(error)

    async def _send_some(self) -> None:
        """Step 1: take what fits one batch; 2: send it until acknowledged; 3: report finished parcels."""
        await self._deliver(*self._fill())
        while self._waiting and self._waiting[0].taken == len(self._waiting[0].columns):
            self._waiting.popleft().settlement.parcel_done()

    def _fill(self) -> tuple[Runs, BatchBuilder]:
        runs: Runs = []
        builder = self._outbox.new_batch()
        for parcel in self._waiting:
            start = parcel.taken
            parcel.taken = append_columns(builder, parcel.columns, start, len(parcel.columns))
            if parcel.taken > start:
                runs.append((parcel.columns, start, parcel.taken))
            if parcel.taken < len(parcel.columns):
                break
        return runs, builder

    async def _deliver(self, runs: Runs, builder: BatchBuilder) -> None:
        """Send records until they are acknowledged; what is too large goes the ways of `oversize.py`."""
        # Larger than a batch is a single record only. Compressed at once: a broker closes the connection on
        # a request beyond its own limit, and that would look like an outage.
        large = builder.size() > self._outbox.batch_bytes
        try:
            await self._send(runs, self._build(runs, compressed=True) if large else builder, compressed=large)
        except TOO_LARGE:
            parts = halves(runs)
            if parts is None:
                columns, index, _ = runs[0]
                await self._deliver_alone(columns, index)
                return
            for part in parts:
                await self._deliver(part, self._build(part))

    async def _deliver_alone(self, columns: Columns, index: int) -> None:
        """One record that was refused for its size."""
        whole: Runs = [(columns, index, index + 1)]
        for runs in itertools.chain([whole], ([(cut, 0, 1)] for cut in cuts(columns, index))):
            try:
                await self._send(runs, self._build(runs, compressed=True), compressed=True)
            except TOO_LARGE:
                continue
            if runs is not whole:
                self._outbox.cut_notice.tell(self._topic)
            return
        raise oversize_error(self._topic, columns, index)

    def _build(self, runs: Runs, *, compressed: bool = False) -> BatchBuilder:
        return append_runs(self._outbox.new_batch(compressed=compressed), runs)

    async def _send(self, runs: Runs, builder: BatchBuilder, *, compressed: bool) -> None:
        """Try until acknowledged; raises what no retry mends, TOO_LARGE among it."""
        wait_seconds = _RETRY_SECONDS_MIN
        while True:
            try:
                await self._outbox.send(builder, self._topic, self._partition)
            except KafkaError as error:
                if not is_passing(error):
                    raise
                self._outbox.state.down((self._topic, self._partition), _name(error))
                await asyncio.sleep(wait_seconds)
                wait_seconds = min(wait_seconds * 2, RETRY_SECONDS_MAX)
                # The client has closed the batch it gave up on; the same records go into a new one.
                builder = self._build(runs, compressed=compressed)
            else:
                self._outbox.state.up((self._topic, self._partition))
                return


def append_runs(builder: BatchBuilder, runs: Runs) -> BatchBuilder:
    """The same batch with all of these records, which fit it."""
    for columns, start, stop in runs:
        append_columns(builder, columns, start, stop)
    return builder


def append_columns(builder: BatchBuilder, columns: Columns, start: int, stop: int) -> int:
    """Append records from `start` while they fit; returns the index of the first one left out."""
    return append_records(builder, columns.keys, columns.values, columns.headers, start, stop)


def _name(error: BaseException) -> str:
    return type(error).__name__.removesuffix("Error")
