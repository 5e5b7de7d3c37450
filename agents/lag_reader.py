"""Measures the lag of this site's consumer groups, from outside of them.

Guarantees
- A group's lag is read from its commits, so a group whose workers are all dead is measured like any other.
- One pass ends within PASS_SECONDS_MAX, or raises LagUnreadableError; after that error the next pass connects
  anew.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Final, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    KafkaError,
    NotCoordinatorForGroupError,
)

from ..streams.lag import Lag, LogRange, counted_from, lag_between
from .admin import connect_admin
from .errors import BrokerAbsentError
from .lag_commits import committed_offsets, partitions_by_topic, reading_groups
from .lag_sampling import Position, RecordSampler, make_sampling_consumer
from .settings import Settings

__all__ = ["CoordinatorNotReadyError", "LagReader", "LagUnreadableError", "PartitionLag", "WatchedGroups"]

REQUEST_TIMEOUT_MS: Final = 10_000
PASS_SECONDS_MAX: Final = 30.0
SAMPLING_SECONDS_MAX: Final = 3.0
CLOSE_SECONDS_MAX: Final = 5.0

_NOT_READY: Final = (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    NotCoordinatorForGroupError,
)


class LagUnreadableError(Exception):
    """This pass could not be finished; the next one may."""


class CoordinatorNotReadyError(LagUnreadableError):
    """The broker is there and its group coordinator is not yet: a fresh one is made when first asked for."""


@dataclass(frozen=True, slots=True)
class WatchedGroups:
    """Whose lag is measured.

    `on_topics`: pairs of group and topic measured whether or not the group ever committed.
    `open_topics`: topics that anyone may read; each group with a commit there is measured.
    """

    on_topics: tuple[tuple[str, str], ...]
    open_topics: tuple[str, ...] = ()

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The scorer's group on the events, the bridge's on the anomalies, anyone's on the scored records."""
        topics = settings.topics
        return cls(
            ((settings.scorer_group, topics.events), (settings.bridge_group, topics.anomalies)),
            (topics.scored,),
        )


@dataclass(frozen=True, slots=True)
class PartitionLag:
    """One group's lag on one partition; `end` is the end that a reader of committed records can reach."""

    group: str
    topic: str
    partition: int
    lag: Lag
    end: int


@dataclass(frozen=True, slots=True)
class _Connection:
    stack: AsyncExitStack
    admin: AIOKafkaAdminClient
    consumer: AIOKafkaConsumer
    sampler: RecordSampler


class LagReader:
    """Connects at the first `read()` and stays connected until `close()`. Used from one task at a time."""

    def __init__(
        self,
        bootstrap: str,
        watched: WatchedGroups,
        *,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._bootstrap = bootstrap
        self._watched = watched
        self._wall_clock = wall_clock
        self._connection: _Connection | None = None

    async def read(self) -> tuple[PartitionLag, ...]:
        """The lag on every partition of every watched group; raises LagUnreadableError.

        A topic that does not exist has no lag and is left out.
        """
        try:
            async with asyncio.timeout(PASS_SECONDS_MAX):
                if self._connection is None:
                    self._connection = await self._connect()
                return await self._read(self._connection)
        except _NOT_READY as error:
            await self.close()
            raise CoordinatorNotReadyError(str(error) or type(error).__name__) from error
        except (KafkaError, OSError, BrokerAbsentError) as error:  # TimeoutError is an OSError
            await self.close()
            raise LagUnreadableError(str(error) or type(error).__name__) from error
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close the connections, if any; takes CLOSE_SECONDS_MAX at most."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(KafkaError, OSError):
                async with asyncio.timeout(CLOSE_SECONDS_MAX):
                    await connection.stack.aclose()

    async def _connect(self) -> _Connection:
        async with AsyncExitStack() as stack:
            admin = await stack.enter_async_context(connect_admin(self._bootstrap))
            consumer = make_sampling_consumer(self._bootstrap, REQUEST_TIMEOUT_MS)
            stack.push_async_callback(consumer.stop)
            await consumer.start()
            return _Connection(stack.pop_all(), admin, consumer, RecordSampler(consumer))

    async def _read(self, connection: _Connection) -> tuple[PartitionLag, ...]:
        # Step 1: commits before log ends. The other way round a busy group would seem to be ahead of its log.
        commits = await self._commits(connection.admin)
        partitions = sorted({partition for group in commits.values() for partition in group})
        # Step 2: where the logs begin and end.
        logs = await _log_ranges(connection.consumer, partitions)
        # Step 3: what stands where each group is.
        connection.sampler.watch(partitions)
        samples = await connection.sampler.sample(
            {
                Position(partition, counted_from(committed, logs[partition]), logs[partition].end)
                for group in commits.values()
                for partition, committed in group.items()
                if counted_from(committed, logs[partition]) < logs[partition].end
            },
            SAMPLING_SECONDS_MAX,
        )
        # Step 4: the arithmetic.
        now_ms = int(self._wall_clock() * 1000)
        return tuple(
            PartitionLag(
                group,
                partition.topic,
                partition.partition,
                lag_between(
                    committed,
                    logs[partition],
                    samples.get((partition, counted_from(committed, logs[partition]))),
                    now_ms,
                ),
                logs[partition].end,
            )
            for (group, _), offsets in commits.items()
            for partition, committed in offsets.items()
        )

    async def _commits(
        self, admin: AIOKafkaAdminClient
    ) -> Mapping[tuple[str, str], dict[TopicPartition, int | None]]:
        """Commits by group and topic."""
        topics = {topic for _, topic in self._watched.on_topics} | set(self._watched.open_topics)
        partitions = await partitions_by_topic(admin, topics)
        commits = {
            (group, topic): await committed_offsets(admin, group, partitions[topic])
            for group, topic in self._watched.on_topics
            if topic in partitions
        }
        for topic in self._watched.open_topics:
            found = await reading_groups(admin, partitions.get(topic, []))
            commits |= {(group, topic): offsets for group, offsets in found.items()}
        return commits


async def _log_ranges(
    consumer: AIOKafkaConsumer, partitions: list[TopicPartition]
) -> dict[TopicPartition, LogRange]:
    if not partitions:
        return {}
    starts = await consumer.beginning_offsets(partitions)
    ends = await consumer.end_offsets(partitions)
    return {
        partition: LogRange(starts[partition], max(starts[partition], ends[partition]))
        for partition in partitions
    }
