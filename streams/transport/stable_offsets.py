"""Commits of a group read only when no transaction can change them any more.

aiokafka asks for commits in a version of the request that answers with the last commit even while a
transaction with a newer one is being finished. Version 7 knows `require_stable` (KIP-447, Kafka 2.5): the
broker refuses such a partition until its transaction is decided. The layout of the messages is that of
Kafka's own OffsetFetchRequest.json and OffsetFetchResponse.json.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping
from typing import ClassVar, Final

from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import KafkaError, NotCoordinatorForGroupError, for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)
from aiokafka.structs import TopicPartition

__all__ = ["StableOffsetFetch", "UnstableCommitError", "await_stable_commits", "commits_in"]

_UNSTABLE_OFFSET_COMMIT: Final = 88
_RETRY_SECONDS: Final = 0.05


class UnstableCommitError(KafkaError):
    """A transaction with a newer commit is not decided yet."""

    retriable = True


class _Response(Response):
    API_KEY: ClassVar[int] = 9
    API_VERSION: ClassVar[int] = 7
    SCHEMA: ClassVar[Schema] = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            CompactArray(
                ("name", CompactString("utf-8")),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("offset", Int64),
                        ("leader_epoch", Int32),
                        ("metadata", CompactString("utf-8")),
                        ("error_code", Int16),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("error_code", Int16),
        ("tags", TaggedFields),
    )


class _Request(RequestStruct):
    API_KEY: ClassVar[int] = 9
    API_VERSION: ClassVar[int] = 7
    FLEXIBLE_VERSION: ClassVar[bool] = True
    RESPONSE_TYPE: ClassVar[type[Response]] = _Response
    SCHEMA: ClassVar[Schema] = Schema(
        ("group_id", CompactString("utf-8")),
        (
            "topics",
            CompactArray(
                ("name", CompactString("utf-8")),
                ("partitions", CompactArray(Int32)),
                ("tags", TaggedFields),
            ),
        ),
        ("require_stable", Boolean),
        ("tags", TaggedFields),
    )


class StableOffsetFetch(Request[_Request]):
    """Asks for the commits of `group` on `partitions`."""

    API_KEY: ClassVar[int] = 9

    def __init__(self, group: str, partitions: Iterable[TopicPartition]) -> None:
        self._group = group
        self._topics: dict[str, list[int]] = {}
        for tp in sorted(partitions):
            self._topics.setdefault(tp.topic, []).append(tp.partition)

    def build(self, request_struct_class: type[_Request]) -> _Request:
        """For aiokafka's connection, which finds the version that the broker knows."""
        topics: list[tuple[str, list[int], dict[int, bytes]]] = [
            (topic, numbers, {}) for topic, numbers in self._topics.items()
        ]
        return request_struct_class(self._group, topics, True, {})


async def await_stable_commits(coordinator: GroupCoordinator, partitions: Collection[TopicPartition]) -> None:
    """Returns when none of the group's commits on `partitions` can change by what is under way.

    It asks over the coordinator's own connection, whose answers come in order: a question of aiokafka's that
    was asked earlier is answered by then.
    """
    request = StableOffsetFetch(coordinator.group_id, partitions)
    while partitions:
        await coordinator.ensure_coordinator_known()
        try:
            commits_in(await coordinator._send_req(request))
        except KafkaError as error:
            if not error.retriable:
                raise
            if isinstance(error, NotCoordinatorForGroupError):
                coordinator.coordinator_dead()
            await asyncio.sleep(_RETRY_SECONDS)
        else:
            return


def commits_in(response: Response) -> Mapping[TopicPartition, int | None]:
    """The commit on each partition, None where there is none; raises UnstableCommitError or a KafkaError."""
    _raise_for(response.error_code)
    commits: dict[TopicPartition, int | None] = {}
    for topic, partitions, _ in response.topics:
        for number, offset, _, _, error_code, _ in partitions:
            _raise_for(error_code)
            commits[TopicPartition(topic, number)] = offset if offset >= 0 else None
    return commits


def _raise_for(code: int) -> None:
    if code == _UNSTABLE_OFFSET_COMMIT:
        raise UnstableCommitError
    if code:
        raise for_code(code)
