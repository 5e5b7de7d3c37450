"""Committed offsets of consumer groups, asked from outside: no group is joined and none is made.

Guarantees
- "No commit" is said only when the broker says so. A coordinator that is still loading answers without an
  error for the single partitions; that answer is refused here, or a restart of the broker would look like a
  group that lost everything.
- Asking about a group that does not exist creates nothing.
"""

from collections.abc import Collection, Mapping
from typing import Final

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError

__all__ = ["GROUPS_MAX", "committed_offsets", "partitions_by_topic", "reading_groups"]

GROUPS_MAX: Final = 200
"""Groups looked at in one pass, so that a cluster with thousands of them cannot stretch it without end."""

_CONSUMER_PROTOCOLS: Final = frozenset({"consumer", ""})  # "" is a group that only commits


async def partitions_by_topic(
    admin: AIOKafkaAdminClient, topics: Collection[str]
) -> Mapping[str, list[TopicPartition]]:
    """The partitions of those of `topics` that exist, by topic."""
    # All topics are described: to ask for one by name makes it, on a broker that creates topics by itself.
    return {
        described["topic"]: [
            TopicPartition(described["topic"], number)
            for number in sorted(part["partition"] for part in described["partitions"])
        ]
        for described in await admin.describe_topics()
        if described["topic"] in topics
    }


async def committed_offsets(
    admin: AIOKafkaAdminClient, group: str, partitions: Collection[TopicPartition]
) -> dict[TopicPartition, int | None]:
    """The group's commit on each partition, None where it has none; raises KafkaError if any is not told."""
    answers = await admin.list_consumer_group_offsets(group, partitions=list(partitions))
    if any(partition not in answers for partition in partitions):
        raise GroupCoordinatorNotAvailableError(f"the coordinator of group {group!r} is not ready")
    offsets = {partition: answers[partition].offset for partition in partitions}
    return {partition: offset if offset >= 0 else None for partition, offset in offsets.items()}


async def reading_groups(
    admin: AIOKafkaAdminClient, partitions: Collection[TopicPartition]
) -> dict[str, dict[TopicPartition, int | None]]:
    """The commits of every group, at most GROUPS_MAX of them, that has one on any of `partitions`."""
    if not partitions:
        return {}
    listed = await admin.list_consumer_groups()
    names = sorted(name for name, protocol, *_ in listed if protocol in _CONSUMER_PROTOCOLS)
    groups = {name: await committed_offsets(admin, name, partitions) for name in names[:GROUPS_MAX]}
    return {
        name: commits
        for name, commits in groups.items()
        if any(offset is not None for offset in commits.values())
    }
