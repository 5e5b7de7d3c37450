"""The reading half of the consumer. Faust runs it in a thread with its own loop; here it shares the app's.

Between two threads every poll would wait for the interpreter's lock, up to its switching interval, while the
other one scores. One loop has nothing to wait for; a run of the model holds up heartbeats no longer than it
takes, and aiokafka's own timers are generous.

Guarantees: no call waits for an absent broker longer than its own limit; an error of the group coordination
that does not mend itself is raised within seconds instead of leaving the worker silent.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, cast

from aiokafka import AIOKafkaConsumer
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import (
    CommitFailedError,
    ConsumerStoppedError,
    IllegalStateError,
    KafkaError,
    OffsetOutOfRangeError,
)
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, credentials_to_aiokafka_auth, server_list
from faust.types import TP
from mode import Service
from mode.utils.futures import maybe_async

from .app import SERVICE_LOG, BatchApp
from .batch import PartitionBatch
from .continuity import Continuity
from .record_reader import ask_for_more, mend_fetches, take_batches
from .stable_offsets import await_stable_commits

if TYPE_CHECKING:
    from faust.transport.drivers.aiokafka import Transport

    from .consumer import BatchConsumer

__all__ = ["BatchConsumerThread", "Poll"]

log = logging.getLogger(__name__)

_FETCH_WAIT_MS: Final = 500
_CLOSE_SECONDS_MAX: Final = 2.0
_START_RETRY_SECONDS: Final = 0.5
_LOOK_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Poll:
    """What one poll brought, and, now and then, where reading stands in partitions that brought nothing."""

    batches: Mapping[TP, PartitionBatch]
    positions: Mapping[TP, int]


class BatchConsumerThread(AIOKafkaConsumerThread):
    """Polls, commits and seeks for one worker."""

    logger = SERVICE_LOG

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, thread_loop=asyncio.get_running_loop(), **kwargs)
        self._commit_refused: str | None = None
        self._continuity: Continuity | None = None
        self._look_again_at = 0.0

    # -- a service like any other, where Faust has a thread

    async def start(self) -> None:
        """Connect, in this loop."""
        self._thread_started.set()
        await self._default_start()

    async def stop(self) -> None:
        """Leave the group and close the connections."""
        if self._started.is_set():
            await Service.stop(self)

    async def on_stop(self) -> None:
        """What Faust does at the end of the thread."""
        await self.on_thread_stop()
        self._shutdown.set()

    def _stopped_set(self) -> None:
        self._stopped.set()

    async def _stop_children(self) -> None:
        await self._default_stop_children()

    async def _stop_futures(self) -> None:
        await self._default_stop_futures()

    async def _stop_exit_stacks(self) -> None:
        await self._default_stop_exit_stacks()

    async def call_thread(self, fun: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call `fun` here and now; Faust's signature, hence Any."""
        return await maybe_async(fun(*args, **kwargs))

    # -- reading

    async def on_start(self) -> None:
        """Connect; a broker that is away just now gets as long as one request may take."""
        deadline = monotonic() + self.app.conf.broker_request_timeout
        while True:
            try:
                await super().on_start()
            except KafkaError:
                # The next try makes a new client; this one is closed, or it would complain when collected.
                await self._ensure_consumer().stop()
                if monotonic() > deadline:
                    raise
                await self.sleep(_START_RETRY_SECONDS)
            else:
                watch = cast("BatchConsumer", self.consumer).reading_watch
                rewind = cast(BatchApp, self.app).transport_settings.rewind_offsets
                self._continuity = Continuity(self._ensure_consumer(), watch, rewind_offsets=rewind)
                mend_fetches(self._ensure_consumer()._fetcher)
                return

    async def on_thread_stop(self) -> None:
        """Leave the group; an absent broker hears nothing of it and times the member out."""
        if self._consumer is not None:
            # A task of its own: aiokafka lets the cancellations of its own tasks out as if they were ours.
            closing = asyncio.ensure_future(self._consumer.stop())
            await asyncio.wait({closing}, timeout=_CLOSE_SECONDS_MAX)
            if closing.done() and not closing.cancelled():
                closing.exception()  # told to nobody: the worker is leaving

    def _create_worker_consumer(self, transport: "Transport") -> AIOKafkaConsumer:
        settings = self.app.conf
        limits = cast(BatchApp, self.app).transport_settings
        self._assignor = RoundRobinPartitionAssignor
        return AIOKafkaConsumer(
            client_id=settings.broker_client_id,
            group_id=settings.id,
            bootstrap_servers=server_list(transport.url, transport.default_port),
            partition_assignment_strategy=[self._assignor],
            enable_auto_commit=False,
            auto_offset_reset="none",  # Continuity gives positions, and tells of what was lost
            isolation_level=limits.isolation_level,
            max_poll_records=limits.poll_rows_max,
            max_poll_interval_ms=int(settings.broker_max_poll_interval * 1000),
            max_partition_fetch_bytes=limits.partition_fetch_bytes_max,
            fetch_max_bytes=limits.fetch_bytes_max,
            fetch_max_wait_ms=_FETCH_WAIT_MS,
            request_timeout_ms=int(settings.broker_request_timeout * 1000),
            session_timeout_ms=int(settings.broker_session_timeout * 1000),
            rebalance_timeout_ms=int(settings.broker_rebalance_timeout * 1000),
            heartbeat_interval_ms=int(settings.broker_heartbeat_interval * 1000),
            metadata_max_age_ms=settings.consumer_metadata_max_age_ms,
            connections_max_idle_ms=settings.consumer_connections_max_idle_ms,
            **credentials_to_aiokafka_auth(settings.broker_credentials, settings.ssl_context),
        )

    async def getmany(self, active_partitions: set[TP] | None, timeout: float) -> Poll:
        """One poll of whatever is assigned, in this loop; Faust's own would hand it to a thread."""
        if not self.consumer.flow_active:
            return Poll({}, {})
        consumer = self._ensure_consumer()
        fetcher = consumer._fetcher
        if consumer._closed or fetcher._closed:
            raise ConsumerStoppedError
        with fetcher._subscriptions.fetch_context():
            limits = cast(BatchApp, self.app).transport_settings
            try:
                taken = await take_batches(
                    fetcher,
                    timeout_seconds=timeout,
                    rows_max=limits.poll_rows_max,
                    bytes_max=limits.poll_bytes_max,
                )
            except OffsetOutOfRangeError as error:
                self._await_positions(consumer, error.args[0])
                return Poll({}, {})
        batches = {TP(*tp): self._marked(batch) for tp, batch in taken.items()}
        continuity = self._ensure_continuity()
        silent = self._silent_positions(consumer, taken)
        continuity.reach(
            silent | {tp: max(batch.next_offset, batch.live_from) for tp, batch in batches.items()}
        )
        return Poll(batches, silent)

    def ask_for_more(self) -> None:
        """Have the next fetch made; a poll by itself leaves it to the caller when."""
        ask_for_more(self._ensure_consumer()._fetcher)

    def _silent_positions(
        self, consumer: AIOKafkaConsumer, taken: Collection[TopicPartition]
    ) -> dict[TP, int]:
        """Where reading stands in partitions that brought nothing; looked at now and then, for all of them.

        They move past control records and gaps alone, and a look takes longer the more partitions there are.
        """
        now = monotonic()
        if now < self._look_again_at:
            return {}
        self._look_again_at = now + _LOOK_SECONDS
        continuity = self._ensure_continuity()
        silent = {}
        for tp in consumer.assignment():
            position = None if tp in taken else self._position(consumer, tp)
            if position is not None and position >= continuity.live_from(tp):
                silent[TP(*tp)] = position
        return silent

    def _marked(self, batch: PartitionBatch) -> PartitionBatch:
        """The batch, told from where on it is live when some of it is only read again."""
        live_from = self._ensure_continuity().live_from((batch.topic, batch.partition))
        return replace(batch, live_from=live_from) if batch.offsets[0] < live_from else batch

    def _ensure_continuity(self) -> Continuity:
        assert self._continuity is not None, "the thread is started first"
        return self._continuity

    def positions(self) -> dict[TP, int | None]:
        """Where reading stands in each assigned partition, None where that is not known yet."""
        consumer = self._ensure_consumer()
        return {TP(*tp): self._position(consumer, tp) for tp in consumer.assignment()}

    def _position(self, consumer: AIOKafkaConsumer, tp: TopicPartition) -> int | None:
        assignment = consumer._subscription.subscription.assignment
        state = assignment.state_value(tp) if assignment is not None and tp in assignment.tps else None
        return None if state is None or not state.has_valid_position else int(state.position)

    async def raise_group_error(self) -> None:
        """Raise what joining, heartbeats or fetching met and cannot mend; Faust never asks for it."""
        await self.call_thread(self._raise_group_error)

    async def _raise_group_error(self) -> None:
        consumer = self._consumer
        if consumer is None or consumer._closed or consumer._fetcher is None:
            return
        consumer._coordinator.check_errors()
        if consumer._fetcher._fetch_task.done():
            consumer._fetcher._fetch_task.result()
        self._ensure_continuity().raise_failure()

    async def remade(self) -> bool:
        """Whether a topic that is being read was made anew meanwhile; an absent broker does not say so."""
        try:
            return await self._ensure_continuity().remade()
        except KafkaError:
            return False

    async def without_commit(self, partitions: Collection[TP]) -> set[TP]:
        """Those of `partitions` of which Kafka has no commit; an absent broker names none."""
        coordinator = self._ensure_consumer()._coordinator
        limit = cast(BatchApp, self.app).transport_settings.commit_seconds_max
        asked = [TopicPartition(*tp) for tp in partitions]
        try:
            async with asyncio.timeout(limit):
                commits = await self.call_thread(coordinator.fetch_committed_offsets, asked)
        except (KafkaError, TimeoutError):
            return set()
        return {tp for tp in partitions if tp not in commits or commits[tp].offset < 0}

    async def keep_alive(self) -> None:
        """Count as a poll without taking records: the group coordinator sees a live member."""
        await self.call_thread(self._touch)

    async def _touch(self) -> None:
        with self._ensure_consumer()._subscription.fetch_context():
            pass

    async def hand_back(self, batches: Iterable[PartitionBatch]) -> None:
        """Read `batches` again, unless a seek or a rebalance has moved their partitions meanwhile."""
        await self.call_thread(self._hand_back, list(batches))

    async def _hand_back(self, batches: list[PartitionBatch]) -> None:
        consumer = self._ensure_consumer()
        for batch in batches:
            tp = TopicPartition(batch.topic, batch.partition)
            if self._position(consumer, tp) == batch.next_offset:
                consumer.seek(tp, batch.offsets[0])
                self._ensure_continuity().reach({TP(*tp): max(batch.offsets[0], batch.live_from)})

    async def rewind(self) -> None:
        """Read every assigned partition on from its commit, wherever that is: nobody waits for the answer."""
        await self.call_thread(self._rewind)

    async def _rewind(self) -> None:
        consumer = self._ensure_consumer()
        assignment = consumer._subscription.subscription and consumer._subscription.subscription.assignment
        if assignment is None:
            return
        self._ensure_continuity().forget()
        self._await_positions(consumer, assignment.tps)

    def _await_positions(self, consumer: AIOKafkaConsumer, partitions: Iterable[TopicPartition]) -> None:
        fetcher = consumer._fetcher
        assignment = consumer._subscription.subscription.assignment
        for tp in partitions:
            state = assignment.state_value(tp) if assignment is not None else None
            if state is not None:
                # As after an assignment: no position, no strategy; the fetcher then asks for both.
                state.await_reset(None)
                fetcher._records.pop(tp, None)
        fetcher._notify(fetcher._wait_consume_future)

    async def await_stable_commits(self) -> None:
        """Returns when no transaction can change a commit of the assigned partitions any more."""
        consumer = self._ensure_consumer()
        await self.call_thread(await_stable_commits, consumer._coordinator, consumer.assignment())

    def commits(self, offsets: Mapping[TP, int]) -> dict[TopicPartition, OffsetAndMetadata]:
        """Offsets as they are committed: with the id of the topic that was read."""
        return self._ensure_continuity().commit(offsets)

    def join_again(self) -> None:
        """Ask the group for a new assignment."""
        self._ensure_consumer()._coordinator.request_rejoin()

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Commit; False when a rebalance or an absent broker prevented it. The next commit covers it."""
        consumer = self._ensure_consumer()
        limit = cast(BatchApp, self.app).transport_settings.commit_seconds_max
        try:
            # aiokafka tries until a coordinator answers, however long that takes.
            async with asyncio.timeout(limit):
                await consumer.commit(self.commits(offsets))
        except (CommitFailedError, ConsumerStoppedError, IllegalStateError, TimeoutError):
            return False
        except KafkaError as error:
            self._note_refused(type(error).__name__)
            return False
        if self._commit_refused is not None:
            log.warning("Kafka takes commits again")
            self._commit_refused = None
        self.tp_last_committed_at.update(dict.fromkeys(offsets, monotonic()))
        return True

    def _note_refused(self, reason: str) -> None:
        if reason != self._commit_refused:
            self._commit_refused = reason
            log.warning("Kafka takes no commits (%s); after a restart these records are read again", reason)
