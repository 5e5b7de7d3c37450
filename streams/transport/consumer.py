"""Faust's consumer with batches in place of records, and commits that gaps in offsets cannot stop.

The commit protocol, in order:
  1. a poll brings batches; each is entered in the ledger when, and only when, it is handed to the agent
  2. the agent works on it and, when every effect is acknowledged, settles it (app.settle)
  3. the ledger gives, for each partition, the end of the longest settled run
  4. Faust's commit timer commits that; so do a revocation and a stop, after a bounded wait for work in hand
  5. on assignment everything outstanding is forgotten and reading goes on from the committed offset;
     where that is gone, from where `continuity.py` says, after the gap is told; where the application
     keeps a memory, from `rewind_offsets` before it, and no commit falls below it by that
Each of revocation and assignment begins a new epoch; what was polled in an older one is never handed out, and
what a poll brought too late is handed back by seeking, never dropped.

With an `offset_owner` in the app (exactly-once) steps 3 and 4 are its: it commits together with the results,
and nothing is handed out before the assignment is claimed (claim.py).

Guarantee: while nothing may be handed out (limits reached, a rebalance under way) the group membership is
kept alive, so a wait of any length is no silent stall. Faust's own pause would let aiokafka leave the group,
and would keep it from joining again.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import TYPE_CHECKING, Final, cast

from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.drivers.aiokafka import Consumer as AIOKafkaConsumer
from faust.types import TP
from mode import Service
from mode.utils.futures import notify

from .app import SERVICE_LOG, BatchApp
from .batch import PartitionBatch
from .claim import ClaimedWatch, PartitionClaim
from .ledger import OffsetLedger
from .message import BatchMessage
from .positions import ReadingWatch
from .thread import BatchConsumerThread, Poll

if TYPE_CHECKING:
    from faust.types.transports import TPorTopicSet

__all__ = ["BatchConsumer"]

_WATCH_SECONDS: Final = 1.0
_POLL_SECONDS: Final = 1.0
_SMALL_POLL_ROWS: Final = 256
_SMALL_POLL_BYTES: Final = 65_536
"""A poll below both costs more by itself than its rows do, so that the next one waits for what it became.

Nothing is lost by that: results travel one batch at a time, and what came meanwhile would have waited there.
"""
_PACE_SECONDS_MAX: Final = 0.01
_TURNS_UNTIL_SENT: Final = 4


async def _let_results_go() -> None:
    """Turns of the loop in which a small poll is scored and its results are on their way to the broker.

    The agent takes one, the results' lanes the next, aiokafka's sender three. A request for more, which takes
    three itself, would come before them, and the broker, once woken, takes the processor.
    """
    for _ in range(_TURNS_UNTIL_SENT):
        await asyncio.sleep(0)


def _is_small(batches: Iterable[PartitionBatch]) -> bool:
    """Whether one poll brought so little that what it costs by itself prevails."""
    rows = size_bytes = 0
    for batch in batches:
        rows += len(batch)
        size_bytes += batch.size_bytes
    return rows < _SMALL_POLL_ROWS and size_bytes < _SMALL_POLL_BYTES


class BatchConsumer(AIOKafkaConsumer):
    """One worker's consumer. It lives in the app's loop; `BatchConsumerThread` does the reading."""

    logger = SERVICE_LOG
    _thread: BatchConsumerThread

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.ledger: OffsetLedger[TP] = OffsetLedger()
        self._room = asyncio.Event()
        self._app_of_batches = cast(BatchApp, self.app)
        self._limits = self._app_of_batches.transport_settings
        self._epoch = 0
        self._polled_small = False
        self._draining = False
        self._joined = False
        self._owner = self._app_of_batches.offset_owner
        self._claim = PartitionClaim(self._make_own)

    def _new_consumer_thread(self) -> BatchConsumerThread:
        return BatchConsumerThread(self, loop=self.loop, beacon=self.beacon)

    # -- reading

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, BatchMessage]]:
        """Batches of one poll, each as one message; waits at most `timeout` seconds."""
        if not self.flow_active or self._draining:
            await self._await_flow(timeout)
            return
        if self._owner is not None and not self._claim.held:
            await self._thread.keep_alive()
            await self._claim.advance(timeout)
            return
        if not self._has_room():
            await self._await_room(timeout)
            return
        epoch = self._epoch, self.app.consumer_generation_id
        if self.ledger.in_hand and self._polled_small:
            await self._await_settled(_PACE_SECONDS_MAX)
            if not self._may_hand_out(epoch):
                return
        poll: Poll = await self._thread.getmany(None, timeout)
        if poll.batches and not self.ledger.in_hand:
            # Of a worker that has records in hand, only what becomes of those is progress.
            self._app_of_batches.note_progress()
        waiting = list(poll.batches.items())
        self._polled_small = _is_small(poll.batches.values())
        if waiting and not self._polled_small:
            self._thread.ask_for_more()
        if self._may_hand_out(epoch):
            for tp, position in poll.positions.items():
                self.ledger.reach(tp, position)
        while waiting and self._may_hand_out(epoch):
            tp, batch = waiting.pop(0)
            yield tp, self._to_message(tp, batch)
        if waiting:
            await self._thread.hand_back([batch for _, batch in waiting])
        if poll.batches and self._polled_small:
            await _let_results_go()
            self._thread.ask_for_more()

    async def _drain_messages(self, fetcher: Service) -> None:
        """Hand every poll to the agents: Faust's own loop without its three tasks for each message.

        Those race the hand-over against a suspension of the flow. While the flow is active a hand-over waits
        for nothing, since what is outstanding fits the streams' buffers.
        """
        hand_over, flow = self.callback, self.app.flow_control
        try:
            while not (self.should_stop or fetcher.should_stop):
                await asyncio.sleep(0)  # a poll may find records each time, and never wait
                async for _, message in self.getmany(_POLL_SECONDS):
                    if flow.is_active():
                        await hand_over(message)
                    else:
                        await self.wait_first(hand_over(message), self.suspend_flow.wait())
        except (asyncio.CancelledError, *self.consumer_stopped_errors):
            if not self.app.should_stop:
                raise

    def _may_hand_out(self, epoch: tuple[int, int]) -> bool:
        return bool(
            self.flow_active
            and not self._draining
            and not self.should_stop
            and (self._owner is None or self._claim.held)
            and epoch == (self._epoch, self.app.consumer_generation_id)
        )

    def _has_room(self) -> bool:
        return (
            self.ledger.bytes_outstanding < self._limits.outstanding_bytes_max
            and self.ledger.batches_outstanding < self._limits.outstanding_batches_max
            and self.ledger.rows_outstanding < self._limits.outstanding_rows_max
        )

    async def _await_flow(self, timeout: float) -> None:
        # aiokafka joins no group for a consumer that has not polled for its longest interval, and Faust
        # resumes the flow only after joining: without this sign of life neither would ever move again.
        await self._thread.keep_alive()
        if self._draining:
            await asyncio.sleep(timeout)
            return
        try:
            async with asyncio.timeout(timeout):
                await self.can_resume_flow.wait()
        except TimeoutError:
            pass

    async def _await_room(self, timeout: float) -> None:
        self._room.clear()
        await self._thread.keep_alive()
        if self._has_room():
            return
        try:
            async with asyncio.timeout(timeout):
                await self._room.wait()
        except TimeoutError:
            pass

    async def _await_settled(self, seconds_max: float) -> None:
        """Until nothing is in hand any more, or the time is over."""
        over = False

        def end() -> None:
            nonlocal over
            over = True
            self._room.set()

        timer = asyncio.get_running_loop().call_later(seconds_max, end)
        try:
            while self.ledger.in_hand and not over:
                self._room.clear()
                await self._room.wait()
        finally:
            timer.cancel()

    def _to_message(self, tp: TP, batch: PartitionBatch) -> BatchMessage:
        message = BatchMessage(
            batch.topic,
            batch.partition,
            batch.offsets[-1],
            batch.timestamps_ms[-1] / 1000,
            0,
            (),
            None,
            batch,
            None,
            0,
            batch.size_bytes,
            tp,
            generation_id=self.app.consumer_generation_id,
        )
        message.settled = False
        message.handed = self.ledger.hand_out(
            tp, end=max(batch.next_offset, batch.live_from), rows=len(batch), size_bytes=batch.size_bytes
        )
        return message

    # -- settling and committing

    def ack(self, message: BatchMessage) -> bool:
        """Faust's final acknowledgement of a message; counts only if the agent settled its batch."""
        if message.acked and not message.settled:
            return False
        message.acked = True
        self._unacked_messages.discard(message)
        if message.settled:
            self.ledger.finish(message.tp, message.handed)
            self._room.set()
            self._app_of_batches.note_progress()
        notify(self._waiting_for_ack)
        return message.settled

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Gaps need no note: a range in the ledger counts from the end of the one before it."""

    def _filter_tps_with_pending_acks(self, topics: "TPorTopicSet | None" = None) -> Iterable[TP]:
        return [
            tp for tp in self.ledger.committable() if topics is None or tp in topics or tp.topic in topics
        ]

    def _filter_committable_offsets(self, tps: Iterable[TP]) -> dict[TP, int]:
        committable = self.ledger.committable()
        return {tp: committable[tp] for tp in tps if tp in committable}

    async def _commit_offsets(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:
        assigned = self.assignment()
        mine = {tp: offset for tp, offset in offsets.items() if tp in assigned}
        if not mine:
            return False
        if self._owner is not None:
            return await self._owner.commit(mine)
        if not await self._commit(mine):
            return False
        self.note_committed(mine)
        return True

    def commits(self, offsets: Mapping[TP, int]) -> Mapping[TopicPartition, OffsetAndMetadata]:
        """Offsets as this consumer would commit them; for the offset owner."""
        return self._thread.commits(offsets)

    @property
    def reading_watch(self) -> ReadingWatch:
        """Who is asked before anything is read."""
        watch = self._app_of_batches.reading_watch
        return watch if self._owner is None else ClaimedWatch(watch, self._claim)

    def note_committed(self, offsets: Mapping[TP, int]) -> None:
        """Note what the broker has taken, from here or from the offset owner."""
        self.ledger.note_committed(offsets)
        self._app_of_batches.note_progress()
        self._committed_offset.update(offsets)
        self.app.monitor.on_tp_commit(offsets)

    # -- rebalancing

    def positions(self) -> Mapping[TP, int | None] | None:
        """Where reading stands in each assigned partition; None without a place in the group."""
        return self._thread.positions() if self._joined else None

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """A place in the group, be it one without partitions."""
        await super().on_partitions_assigned(assigned, generation_id)
        self._joined = True

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Settle what is in hand, within a bound, commit it, then let go."""
        self._joined = False
        self._epoch += 1
        self.stop_flow()
        await self._settle_and_commit(self._limits.revoke_wait_seconds_max)
        if self._owner is not None:
            self._claim.drop()
            await self._owner.release()
        await super().on_partitions_revoked(revoked)
        self.ledger.forget(revoked)

    def lose(self, partitions: set[TP]) -> None:
        """The offset owner cannot go on with `partitions`: hand out nothing before a new assignment."""
        self._epoch += 1
        self._claim.drop()
        self.ledger.forget(partitions)
        self._room.set()
        self._thread.join_again()

    async def _make_own(self) -> None:
        assert self._owner is not None
        await self._owner.take(self.assignment())
        await self._thread.await_stable_commits()

    async def drain(self) -> None:
        """Before a stop: hand out nothing more, settle what is in hand, within a bound, and commit it."""
        self._draining = True
        await self._settle_and_commit(self._limits.stop_wait_seconds_max)

    async def on_stop(self) -> None:
        """Commit what was settled since `drain`."""
        await self._commit_within(self._limits.last_commit_seconds_max)

    async def _settle_and_commit(self, seconds_max: float) -> None:
        await self._await_settled(seconds_max)
        await self._commit_within(self._limits.last_commit_seconds_max)

    async def _commit_within(self, seconds_max: float) -> None:
        # A task of its own: Faust's wait for a commit under way swallows a cancellation.
        commit = asyncio.ensure_future(self._commit_rest())
        await asyncio.wait({commit}, timeout=seconds_max)

    async def _commit_rest(self) -> None:
        # A commit that is under way may have begun before the last batch was settled.
        await self.maybe_wait_for_commit_to_finish()
        if self.ledger.committable():
            await self.commit()

    async def perform_seek(self) -> None:
        """Read on from the committed offsets; what was outstanding will be read again."""
        # Nothing may be handed out between forgetting and rewinding; whoever asked resumes the flow.
        self.stop_flow()
        self._epoch += 1
        self.ledger.forget(self.assignment())
        self._room.set()
        await self._thread.rewind()
        self._claim.want()

    @Service.task
    async def _watch_group(self) -> None:
        # A worker that never got an assignment does not poll, so that polls cannot tell it of a refusal.
        while not self.should_stop:
            await self.sleep(_WATCH_SECONDS)
            await self._thread.raise_group_error()

    @Service.task
    async def _watch_lives(self) -> None:
        """A topic made anew, and grown past the position already, gives no error to a reader."""
        while not self.should_stop:
            await self.sleep(self._limits.life_check_seconds)
            if self._draining or not self.flow_active:
                continue
            if not await self._thread.remade():
                await self._renew_commits()
                continue
            if not self.app.rebalancing:
                self.stop_flow()
                await self._settle_and_commit(self._limits.revoke_wait_seconds_max)
            # A rebalance that began meanwhile rewinds by itself, and resumes when it is over.
            if not self.app.rebalancing:
                await self.perform_seek()
                self.resume_flow()

    async def _renew_commits(self) -> None:
        """Commit again what Kafka has dropped: it deletes the commits of a deleted topic by its name, some
        time later, when they may be those of the next topic of that name."""
        committed = {tp for tp in self.assignment() if self.ledger.committed(tp) is not None}
        for tp in await self._thread.without_commit(committed) if committed else ():
            self.ledger.note_commit_gone(tp)  # Step 4 does the rest

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust's own stall detector cannot tell a paused worker from a stuck one, so it says nothing."""
