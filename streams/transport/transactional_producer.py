"""Transactions of one worker for one input partition, under one transactional id.

Guarantees:
  when `open` returns, every earlier holder of the id is locked out and nothing of theirs is under way: the
  broker raises the epoch of the id and answers only when the transaction it found is aborted or committed
  a transaction is committed only if the broker has taken every record and the offsets; else nothing of it is
  ever visible to readers of committed records
After any error the producer is of no use; a new one begins with `open`. That keeps what aiokafka leaves open
out of reach: the sequence numbers of a batch that failed, and a commit in spite of a batch that failed.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from .eager_transactions import EagerTransactions

__all__ = ["BatchesTo", "TransactionalProducer"]

OPEN_RETRY_SECONDS_MIN: Final = 0.1
OPEN_RETRY_SECONDS_MAX: Final = 5.0
ABORT_SECONDS_MAX: Final = 1.0
CLOSE_SECONDS_MAX: Final = 1.0
_METADATA_RETRY_SECONDS: Final = 0.1

BatchesTo = Mapping[TopicPartition, Iterable[BatchBuilder]]
"""Kafka batches for each output partition, made as they are sent."""


class TransactionalProducer:
    """`open`, then any number of `begin` and `commit` or `abort` by turns, then `close`."""

    def __init__(self, make: Callable[[], AIOKafkaProducer], group: str) -> None:
        """`make` gives a client that is not started; offsets are committed for `group`."""
        self._make = make
        self._group = group
        self._client: AIOKafkaProducer | None = None
        self._transactions: EagerTransactions | None = None
        self.refused_topic: str | None = None
        """The topic that refused the size of a batch, once `commit` has raised that."""

    async def open(self) -> None:
        """Connect and lock others out; an absent broker is waited for. Raises a KafkaError that stays."""
        wait_seconds = OPEN_RETRY_SECONDS_MIN
        while True:
            self._client = self._make()
            self._transactions = EagerTransactions.put_into(self._client, self._group)
            try:
                await self._client.start()
            except KafkaError as error:
                await self._discard()
                if not error.retriable:
                    raise
                await asyncio.sleep(wait_seconds)
                wait_seconds = min(wait_seconds * 2, OPEN_RETRY_SECONDS_MAX)
            except BaseException:
                await self._discard()
                raise
            else:
                return

    def new_batch(self, *, compressed: bool = False) -> BatchBuilder:
        """An empty Kafka batch for a transaction."""
        assert self._client is not None
        if not compressed:
            return self._client.create_batch()
        return BatchBuilder(self.batch_bytes, DefaultRecordBatch.CODEC_GZIP, is_transactional=True)

    @property
    def batch_bytes(self) -> int:
        """What a batch holds at most, unless a single record is larger."""
        assert self._client is not None
        return int(self._client._message_accumulator._batch_size)

    @property
    def has_begun(self) -> bool:
        """Whether a transaction is open."""
        return self._transactions is not None and self._transactions.is_in_transaction()

    async def begin(self, likely: Collection[TopicPartition]) -> None:
        """Open a transaction, ready for records to `likely`; others may follow. Nothing of it is visible."""
        client, transactions = self._client, self._transactions
        assert client is not None
        assert transactions is not None
        self._raise_fatal()
        await client.begin_transaction()
        await transactions.open(likely)

    async def commit(self, batches: BatchesTo, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """Everything or nothing; returns when the transaction is committed, else raises."""
        client = self._client
        assert client is not None
        try:
            await self._send_all(client, batches)
            # Not beside the records: a broker that is asked to verify both at once refuses one of them
            # (AddPartitionsToTxnManager), which aiokafka sends again after 100 ms.
            await client.send_offsets_to_transaction(offsets, self._group)
            await client.commit_transaction()
        except Exception:
            self._raise_fatal()
            raise

    async def _send_all(self, client: AIOKafkaProducer, batches: BatchesTo) -> None:
        # All outputs begin before the loop turns, so that one request adds those that are not added yet.
        parts = [asyncio.ensure_future(_send(client, tp, some)) for tp, some in batches.items()]
        try:
            await asyncio.gather(*parts)
        except (MessageSizeTooLargeError, RecordListTooLargeError) as error:
            failed = (tp for tp, part in zip(batches, parts, strict=True) if _failure(part) is error)
            self.refused_topic = next((tp.topic for tp in failed), None)
            raise
        finally:
            for part in parts:
                part.cancel()

    async def abort(self) -> None:
        """Nothing of the open transaction stays."""
        assert self._client is not None
        self._raise_fatal()
        await self._client.abort_transaction()

    def _raise_fatal(self) -> None:
        # aiokafka would complain of the order of calls instead of the error that came in between.
        if self._transactions is not None and self._transactions.is_fatal_error():
            self._transactions.wait_for_transaction_end().result()

    async def close(self) -> None:
        """Abort what is under way and disconnect, within ABORT_SECONDS_MAX + CLOSE_SECONDS_MAX.

        What the broker does not hear of here is aborted by the next `open` under this id, or when the
        transaction's time is over.
        """
        client = self._client
        if client is None:
            return
        if self.has_begun:
            with contextlib.suppress(KafkaError, TimeoutError):
                async with asyncio.timeout(ABORT_SECONDS_MAX):
                    await client.abort_transaction()
        await self._discard()

    async def _discard(self) -> None:
        client, self._client = self._client, None
        if client is None:
            return
        # A task of its own: a client that is stopped waits for the broker, however long that takes.
        stopping = asyncio.ensure_future(client.stop())
        done, _ = await asyncio.wait({stopping}, timeout=CLOSE_SECONDS_MAX)
        if not done:
            # Without its connections, what it waits for fails.
            await client.client.close()
            stopping.cancel()
        elif not stopping.cancelled():
            stopping.exception()  # told to nobody: what failed has been told by `transact`


def _failure(part: "asyncio.Future[None]") -> BaseException | None:
    return part.exception() if part.done() and not part.cancelled() else None


async def _send(client: AIOKafkaProducer, tp: TopicPartition, batches: Iterable[BatchBuilder]) -> None:
    while tp.partition not in await client.partitions_for(tp.topic):
        # A topic that has just grown; whoever asked for the partition knows that it is there.
        await client.client.force_metadata_update()
        await asyncio.sleep(_METADATA_RETRY_SECONDS)
    # Each waits until the batch before it is on its way: at most one travels and one waits.
    acknowledged = [await client.send_batch(batch, tp.topic, partition=tp.partition) for batch in batches]
    await asyncio.gather(*acknowledged)
