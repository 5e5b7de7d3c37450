"""Faust's consumer with batches in place of records, and commits that gaps in offsets cannot stop.

The commit protocol, in order:
  1. a poll brings batches; each is entered in the ledger when, and only when, it is handed to the agent
  2. the agent works on it and, when every effect is acknowledged, settles it (app.settle)
  3. the ledger gives, for each partition, the end of the longest settled run
  4. Faust's commit timer commits that; so does a revocation, after a bounded wait for work in hand
  5. on assignment everything outstanding is forgotten and reading goes on from the committed offset
What a rebalance catches between poll and hand-over is handed back by seeking, never dropped.

Guarantee: while nothing may be handed out (limits reached) the group membership is kept alive, so a wait of
any length is no silent stall. Faust's own pause would let aiokafka leave the group.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import TYPE_CHECKING, cast

from faust.transport.drivers.aiokafka import Consumer as AIOKafkaConsumer
from faust.types import TP
from mode.utils.futures import notify

from .app import BatchApp
from .batch import PartitionBatch
from .ledger import OffsetLedger
from .message import BatchMessage
from .thread import BatchConsumerThread

if TYPE_CHECKING:
    from faust.types.transports import TPorTopicSet

__all__ = ["BatchConsumer"]


class BatchConsumer(AIOKafkaConsumer):
    """One worker's consumer. It lives in the app's loop; `BatchConsumerThread` does the reading."""

    _thread: BatchConsumerThread

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.ledger: OffsetLedger[TP] = OffsetLedger()
        self._room = asyncio.Event()
        self._limits = cast(BatchApp, self.app).transport_settings

    def _new_consumer_thread(self) -> BatchConsumerThread:
        return BatchConsumerThread(self, loop=self.loop, beacon=self.beacon)

    # -- reading

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, BatchMessage]]:
        """Batches of one poll, each as one message; waits at most `timeout` seconds."""
        if not self.flow_active:
            await self.wait(self.can_resume_flow)
        generation = self.app.consumer_generation_id
        if not self._has_room():
            await self._await_room(timeout)
            return
        batches = await self._thread.getmany(None, timeout)
        waiting = list(batches.items())
        while waiting and self._may_hand_out(generation):
            tp, batch = waiting.pop(0)
            # Faust drops messages below the offset it read last; after a seek that would lose them.
            self._read_offset[tp] = None
            yield tp, self._to_message(tp, batch)
        if waiting:
            await self._thread.hand_back([batch for _, batch in waiting])

    def _may_hand_out(self, generation: int) -> bool:
        return bool(
            self.flow_active and not self.should_stop and self.app.consumer_generation_id == generation
        )

    def _has_room(self) -> bool:
        return (
            self.ledger.bytes_outstanding < self._limits.outstanding_bytes_max
            and self.ledger.batches_outstanding < self._limits.outstanding_batches_max
        )

    async def _await_room(self, timeout: float) -> None:
        await self._thread.keep_alive()
        self._room.clear()
        try:
            async with asyncio.timeout(timeout):
                await self._room.wait()
        except TimeoutError:
            pass

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
            tp, end=batch.next_offset, rows=len(batch), size_bytes=batch.size_bytes
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
        if not mine or not await self._commit(mine):
            return False
        self.ledger.note_committed(mine)
        self._committed_offset.update(mine)
        self.app.monitor.on_tp_commit(mine)
        return True

    # -- rebalancing

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Settle what is in hand, within a bound, commit it, then let go."""
        self.stop_flow()
        await self._await_settled(self._limits.revoke_wait_seconds_max)
        await self.commit()
        await super().on_partitions_revoked(revoked)
        self.ledger.forget(revoked)

    async def _await_settled(self, seconds_max: float) -> None:
        try:
            async with asyncio.timeout(seconds_max):
                while self.ledger.in_hand:
                    self._room.clear()
                    await self._room.wait()
        except TimeoutError:
            pass

    async def perform_seek(self) -> None:
        """Read on from the committed offsets; what was outstanding will be read again."""
        self.ledger.forget(self.assignment())
        self._room.set()
        await super().perform_seek()

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust's own stall detector cannot tell a paused worker from a stuck one: liveness does that."""
