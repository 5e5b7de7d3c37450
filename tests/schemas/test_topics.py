"""The invariants of the topics' plan, for sites of every size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farshore.schemas.topics import (
    DEAD_LETTER_OVERHEAD_BYTES,
    Cleanup,
    Role,
    TopicNames,
    TopicSpec,
    topic_specs,
)


def plan(
    *,
    partitions: int = 4,
    replication: int = 1,
    in_sync_replicas_min: int = 1,
    event_bytes_max: int = 1_048_576,
) -> dict[Role, TopicSpec]:
    specs = topic_specs(
        TopicNames(),
        partitions=partitions,
        replication=replication,
        in_sync_replicas_min=in_sync_replicas_min,
        event_bytes_max=event_bytes_max,
    )
    return {spec.role: spec for spec in specs}


def test_every_role_has_one_topic_under_its_own_name_by_default() -> None:
    assert {role: spec.name for role, spec in plan().items()} == {role: role.value for role in Role}


def test_each_name_is_a_setting() -> None:
    names = TopicNames(
        events="a", scored="b", anomalies="c", deliveries="d", audit="e", dead_letters="f", models="g"
    )
    specs = topic_specs(names, partitions=1, replication=1, in_sync_replicas_min=1, event_bytes_max=1_048_576)
    assert [spec.name for spec in specs] == list("abcdefg")


@given(
    partitions=st.integers(1, 1_000),
    replication=st.integers(1, 5),
    event_bytes_max=st.integers(1_024, 100 * 1024 * 1024),
)
def test_outputs_have_room_for_the_position_and_the_bytes_of_every_event(
    partitions: int, replication: int, event_bytes_max: int
) -> None:
    topics = plan(partitions=partitions, replication=replication, event_bytes_max=event_bytes_max)
    for role in (Role.SCORED, Role.ANOMALIES, Role.DELIVERIES, Role.DEAD_LETTERS):
        assert topics[role].partitions >= topics[Role.EVENTS].partitions == partitions
    assert int(topics[Role.EVENTS].config["max.message.bytes"]) == event_bytes_max
    assert (
        int(topics[Role.DEAD_LETTERS].config["max.message.bytes"])
        >= event_bytes_max + DEAD_LETTER_OVERHEAD_BYTES
    )
    assert {spec.replication for spec in topics.values()} == {replication}


def test_what_must_outlive_an_outage_is_compacted_and_never_deleted() -> None:
    compacted = {role for role, spec in plan().items() if spec.cleanup is Cleanup.COMPACT}
    assert compacted == {Role.ANOMALIES, Role.DELIVERIES, Role.MODELS}
    for role in compacted:
        assert plan()[role].creation_config["cleanup.policy"] == "compact"
        assert "retention.ms" not in plan()[role].config


def test_dead_letters_and_audit_are_kept_longer_than_the_events_they_tell_of() -> None:
    topics = plan()
    kept = int(topics[Role.EVENTS].config["retention.ms"])
    for role in (Role.DEAD_LETTERS, Role.AUDIT):
        assert int(topics[role].config["retention.ms"]) > kept


@pytest.mark.parametrize(("replication", "flushed"), [(1, True), (3, False)])
def test_on_a_single_broker_outputs_are_flushed_so_that_acknowledged_means_on_disk(
    replication: int, flushed: bool
) -> None:
    for role, spec in plan(replication=replication).items():
        assert (spec.config.get("flush.messages") == "1") is (flushed and role is not Role.EVENTS)


def test_the_least_number_of_replicas_in_sync_is_set_on_every_topic() -> None:
    for spec in plan(replication=3, in_sync_replicas_min=2).values():
        assert spec.config["min.insync.replicas"] == "2"


def test_audit_and_models_have_one_partition_so_that_their_order_is_one() -> None:
    topics = plan(partitions=12)
    assert (topics[Role.AUDIT].partitions, topics[Role.MODELS].partitions) == (1, 1)


def test_kafkas_clock_stamps_what_farshore_writes_and_the_producers_clock_stamps_events() -> None:
    """A worker whose clock was more than an hour ahead ended on each start: Kafka refused its timestamps."""
    stamped = {role for role, spec in plan().items() if "message.timestamp.type" in spec.config}
    assert stamped == set(Role) - {Role.EVENTS}
    assert {plan()[role].config["message.timestamp.type"] for role in stamped} == {"LogAppendTime"}
