"""Exactly once: everything that becomes of a batch, and its offsets, in one Kafka transaction.

Guarantees, for each input partition:
  a reader of committed records sees the results of each event once, whatever died on the way: results and the
  offsets behind them become visible together or never
  one transactional id, `<group>.<topic>.<partition>`; who takes the partition locks every earlier worker out,
  also one that was frozen and does not know it
  transactions follow the order of batches
  an absent broker delays and never drops; after an error the partition is read again from its commit
What waits is bounded by the transport, as in the outbox. Exactly-once ends at Kafka: the hub gets copies.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Set
from typing import Final, cast

import faust
from aiokafka.errors import InvalidTransactionTimeout
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.types import TP

from ..streams.transport.app import message_of
from ..streams.transport.consumer import BatchConsumer
from ..streams.transport.producer import BatchProducer
from ..streams.transport.transactional_producer import TransactionalProducer
from . import metrics
from .errors import SettingsError
from .faust_app import WorkerApp
from .fitting import Fitting
from .outbox import SILENCE_SECONDS_MAX, BrokerState
from .oversize import TOO_LARGE
from .results import Parcels
from .transaction_failures import TransactionFailures
from .transaction_lane import TransactionLane, Work

__all__ = ["TransactionalResults"]

COMMIT_SECONDS_MAX: Final = 10.0


class TransactionalResults:
    """A lane of transactions for each partition that is taken; the app's OffsetOwner and a ResultSink."""

    def __init__(self, app: WorkerApp) -> None:
        self._app = app
        self._lanes: dict[TP, TransactionLane] = {}
        self._fittings: dict[TP, Fitting] = {}
        self._failures = TransactionFailures()
        self._closed = False
        self._opening = False
        self.state = BrokerState()

    # -- for the scorer

    def put(self, event: faust.Event, parcels: Parcels, on_settled: Callable[[], None]) -> None:
        """Queue a batch for the next transaction of its partition."""
        message = message_of(event)
        lane = self._lanes.get(message.tp)
        if lane is not None and not message.handed.forgotten:
            lane.put(Work(message.handed, parcels, on_settled))

    def pause(self) -> str | None:
        """Why waiting is meant: Kafka has not committed what it was given, or gives no transactional id."""
        if self._opening:
            return "waiting for Kafka to give transactional ids"
        batches = sum(lane.waiting for lane in self._lanes.values())
        return f"waiting for Kafka to commit {batches} batches of results" if batches else None

    async def close(self) -> None:
        """Let go of everything; nothing is taken any more."""
        self._closed = True
        await self.release()

    # -- for the consumer

    async def take(self, partitions: Set[TP]) -> None:
        """One transactional id for each partition, initialised; the first worker to do so later wins it."""
        await self.release()
        self._failures.keep(partitions)
        await asyncio.sleep(self._failures.wait_seconds(partitions))
        seconds_max = self._app.transport_settings.transaction_seconds_max
        producers = {tp: self._producer_of(tp) for tp in partitions}
        try:
            await self._open(producers.values())
            if not self._closed:
                self._lanes = {
                    tp: TransactionLane(
                        tp, producer, self, self._fittings.setdefault(tp, Fitting()), seconds_max
                    )
                    for tp, producer in producers.items()
                }
        except InvalidTransactionTimeout:
            raise SettingsError(
                f"FARSHORE_TRANSACTION_SECONDS_MAX={seconds_max:g} is more than the broker allows: "
                "raise its transaction.max.timeout.ms or lower the setting"
            ) from None
        finally:
            if not self._lanes:
                await asyncio.gather(*(producer.close() for producer in producers.values()))
        self.state.keep({(tp.topic, tp.partition) for tp in partitions})

    async def _open(self, producers: Collection[TransactionalProducer]) -> None:
        self._opening = True
        opening = asyncio.gather(*(producer.open() for producer in producers))
        try:
            done, _ = await asyncio.wait({opening}, timeout=SILENCE_SECONDS_MAX)
            if not done:
                # Among other things: a broker alone that wants three replicas of its transaction log.
                reason = f"no transactional id for {SILENCE_SECONDS_MAX:g} s"
                self.state.down((self._app.conf.id, 0), reason, seconds_ago=SILENCE_SECONDS_MAX)
            await opening
        finally:
            self._opening = False
            opening.cancel()

    async def release(self) -> None:
        """Stop every lane and abort what is under way, within the bounds of TransactionalProducer.close."""
        lanes, self._lanes = self._lanes, {}
        await asyncio.gather(*(lane.close() for lane in lanes.values()))

    async def commit(self, offsets: Mapping[TP, int]) -> bool:
        """Transactions of offsets alone, where no batch is under way that will carry more."""
        commits = [
            self._lanes[tp].commit(offset)
            for tp, offset in offsets.items()
            if tp in self._lanes and not self._lanes[tp].busy
        ]
        if not commits:
            return False
        done, left = await asyncio.wait(commits, timeout=COMMIT_SECONDS_MAX)
        return not left and not any(commit.cancelled() for commit in done)

    # -- for the lanes

    def commits(self, offsets: Mapping[TP, int]) -> Mapping[TopicPartition, OffsetAndMetadata]:
        """Offsets as they are committed."""
        return cast(BatchConsumer, self._app.consumer).commits(offsets)

    def note_committed(self, tp: TP, offset: int) -> None:
        """A transaction is through."""
        metrics.TRANSACTIONS.labels("committed").inc()
        self._failures.committed(tp)
        self.state.up((tp.topic, tp.partition))
        cast(BatchConsumer, self._app.consumer).note_committed({tp: offset})

    def failed(self, tp: TP, error: BaseException) -> None:
        """A lane ended. Its partition is taken anew, unless the error is one that stays."""
        metrics.TRANSACTIONS.labels("failed").inc()
        if self._closed:
            return
        # From a size the lane has learnt: read again from the commit, the same results go out smaller.
        fatal = None if isinstance(error, TOO_LARGE) else self._failures.fatal(tp, error)
        if fatal is not None:
            self._app.stop_on_error(fatal)
            return
        cast(BatchConsumer, self._app.consumer).lose({tp})

    def _producer_of(self, tp: TP) -> TransactionalProducer:
        group = self._app.conf.id
        client = cast(BatchProducer, self._app.producer)
        return TransactionalProducer(
            lambda: client.new_transactional(f"{group}.{tp.topic}.{tp.partition}"), group
        )
