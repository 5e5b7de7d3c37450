"""`farshore check`, settings and topics: what is wrong is named before a start, in one line, without a
traceback."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from aiokafka.admin import NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from farshore.agents.admin import ensure_topics, site_topics
from farshore.agents.errors import TopicError

from ..site import Site, until

pytestmark = pytest.mark.broker

SECRET = "s3cr3t-that-must-not-show"


async def config_of(site: Site, topic: str) -> dict[str, str]:
    async with site.admin() as admin:
        (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    return {entry[0]: entry[1] for entry in answer.resources[0][4]}


async def recreate(site: Site, topic: str, partitions: int, config: dict[str, str]) -> None:
    async with site.admin() as admin:
        await admin.delete_topics([topic])
    for _ in range(50):
        async with site.admin() as admin:
            answer = await admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=config)])
        if answer.topic_errors[0][1] == 0:
            await until(lambda: described(site, topic, config), "described")
            return
        await asyncio.sleep(0.2)
    raise AssertionError(f"{topic} could not be made anew: {answer}")


async def described(site: Site, topic: str, config: dict[str, str]) -> bool:
    """Whether the broker tells of the new one: it answers a creation a little before it knows of it."""
    async with site.admin() as admin:
        listed = topic in await admin.list_topics()
    found = await config_of(site, topic)
    return listed and config.items() <= found.items()


async def test_check_finds_nothing_wrong_with_a_good_site_and_says_what_it_saw(site: Site) -> None:
    done = await site.run("check")
    assert done.returncode == 0, done.stderr
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [
        [subject, "ok"] for subject in ("settings", "model", "policy", "broker", "topics", "uplink")
    ]


async def test_topics_are_made_as_they_are_specified(site: Site) -> None:
    for spec in site_topics(site.settings):
        found = await config_of(site, spec.name)
        assert {name: found[name] for name in spec.creation_config} == spec.creation_config
        assert len(await site.ends(spec.name)) == spec.partitions


async def test_a_store_that_is_not_compacted_is_refused_by_name(site: Site) -> None:
    store = site.settings.topic_anomalies
    await recreate(site, store, 4, {"cleanup.policy": "delete"})
    for command in ("check", "score", "bridge"):
        done = await site.run(command)
        assert done.returncode == 1, command
        (line,) = [line for line in done.stderr.splitlines() if "cleanup.policy" in line]
        assert repr(store) in line
        assert "expected compact" in line
        assert "Traceback" not in done.stderr


async def test_outputs_that_cannot_hold_what_becomes_of_every_event_are_refused(site: Site) -> None:
    names, largest = site.settings.topics, site.settings.topic_event_bytes_max
    size = {"max.message.bytes": str(largest + 1_000)}
    outputs = [names.scored, names.anomalies, names.dead_letters]
    for topic in outputs:
        cleanup = "compact" if topic == names.anomalies else "delete"
        await recreate(site, topic, 4, {"cleanup.policy": cleanup} | size)
    done = await site.run("check")
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if "max.message.bytes" in line]
    for topic, line in zip(outputs, lines, strict=True):
        assert repr(topic) in line
        assert f"raise its max.message.bytes to {largest + 65_536}" in line


async def test_outputs_are_made_for_the_events_topic_that_is_there(site: Site) -> None:
    settings, largest = site.settings, 12 * 1024 * 1024
    await recreate(site, settings.topic_events, 6, {"max.message.bytes": str(largest)})
    async with site.admin() as admin:
        await admin.delete_topics(
            [settings.topic_scored, settings.topic_anomalies, settings.topic_dead_letters]
        )
    await until(lambda: made_again(site), "made again")
    for topic in (settings.topic_scored, settings.topic_anomalies, settings.topic_dead_letters):
        assert (await config_of(site, topic))["max.message.bytes"] == str(largest + 65_536)
        assert len(await site.ends(topic)) == 6
    await site.make_topics()  # and they are found good


async def made_again(site: Site) -> bool:
    try:
        await site.make_topics()
    except TopicError:
        return False  # still being deleted
    return True


async def test_topics_that_promise_less_than_the_settings_ask_are_named_and_a_worker_starts_all_the_same(
    site: Site,
) -> None:
    scored = site.settings.topic_scored
    await recreate(site, scored, 4, {"max.message.bytes": str(16 * 1024 * 1024)})
    asked = {"topic_replication": "3", "topic_in_sync_replicas_min": "2"}
    done = await site.run("check", **asked)
    assert done.returncode == 0, done.stderr
    weaker = [line for line in done.stdout.splitlines() if "warning" in line and repr(scored) in line]
    assert len(weaker) == 3
    assert "has 1 replicas, the settings ask for 3" in weaker[0]
    assert "has min.insync.replicas=1, the settings ask for 2" in weaker[1]
    assert "has message.timestamp.type=CreateTime: Kafka refuses what a worker writes whose" in weaker[2]
    worker = await site.start("score")
    lines = worker.lines("WARNING")
    assert len(lines) == 2
    assert all(repr(scored) in line for line in lines)
    assert "has one replica and flush.messages=9223372036854775807: a power cut" in lines[0]
    assert "set it to LogAppendTime" in lines[1]
    await worker.stop()


async def test_a_topic_that_nothing_could_be_written_to_is_refused(site: Site) -> None:
    scored = site.settings.topic_scored
    config = {"max.message.bytes": str(16 * 1024 * 1024), "min.insync.replicas": "2"}
    await recreate(site, scored, 4, config)
    async with site.admin() as admin:
        with pytest.raises(TopicError) as refused:
            await ensure_topics(admin, site_topics(site.settings))
    assert f"topic {scored!r} has min.insync.replicas=2 and only 1 replica: nothing" in str(refused.value)


async def test_a_store_that_cannot_take_the_models_largest_anomaly_is_refused_before_any_event(
    site: Site,
) -> None:
    store = site.settings.topic_anomalies
    await recreate(site, store, 4, {"cleanup.policy": "compact", "max.message.bytes": "2000"})
    for command in ("check", "score"):
        done = await site.run(command)
        assert done.returncode == 1, command
        (line,) = [line for line in done.stderr.splitlines() if "takes messages of 2000 bytes" in line]
        assert repr(store) in line
        assert "max.message.bytes" in line
        assert "Traceback" not in done.stderr


async def test_outputs_grow_with_the_events_topic(site: Site) -> None:
    async with site.admin() as admin:
        await admin.create_partitions({site.settings.topic_events: NewPartitions(7)})
    worker = await site.start("score")
    for topic in (
        site.settings.topic_scored,
        site.settings.topic_anomalies,
        site.settings.topic_deliveries,
        site.settings.topic_dead_letters,
    ):
        assert len(await site.ends(topic)) == 7, topic
    await site.publish([(b"k", b"{")], partition=6)
    await site.scored()
    (letter,) = await site.records(site.settings.topic_dead_letters)
    assert letter.partition == 6
    await worker.stop()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"kafka_bootstrap": "nowhere"}, "FARSHORE_KAFKA_BOOTSTRAP"),
        ({"site": "a site"}, "FARSHORE_SITE"),
        ({"batch_rows_max": "many"}, "FARSHORE_BATCH_ROWS_MAX"),
        ({"topic_scored": "not a name!"}, "FARSHORE_TOPIC_SCORED"),
        ({"batch_row_max": "7"}, "FARSHORE_BATCH_ROW_MAX"),
        ({"event_bytes_max": "9000000"}, "topic_event_bytes_max"),
        ({"model": "/no/such/folder"}, "/no/such/folder is no folder"),
        ({"eventhub_connection_string": f"Endpoint=;SharedAccessKey={SECRET}"}, "EVENTHUB_CONNECTION_STRING"),
        ({"kafka_bootstrap": "127.0.0.1:1"}, "no Kafka broker answers at 127.0.0.1:1\n"),
    ],
)
async def test_each_thing_wrong_is_named_and_no_secret_is_printed(
    site: Site, given: dict[str, str], said: str
) -> None:
    done = await site.run("check", **given)
    assert done.returncode == 1
    assert said in done.stderr
    # One finding is one line: no library speaks beside it.
    assert all(line.startswith("farshore: ") or " FAILED " in line for line in done.stderr.splitlines())
    for output in (done.stdout, done.stderr):
        assert "Traceback" not in output
        assert SECRET not in output


async def test_a_configuration_file_is_read_and_the_environment_wins(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "farshore.toml"
    file.write_text('site = "from-file"\nbatch_rows_max = 5\n')
    done = await site.run("check", "--config", str(file), site="from-environment")
    assert done.returncode == 0, done.stderr
    assert "site from-environment" in done.stdout
    file.write_text("sight = 1\n")
    done = await site.run("check", "--config", str(file))
    assert done.returncode == 1
    assert "unknown settings sight" in done.stderr


@pytest.mark.parametrize(("command", "name"), [("bridge", "EVENTHUB_CONNECTION_STRING"), ("score", "MODEL")])
async def test_a_worker_without_what_it_needs_says_so(site: Site, command: str, name: str) -> None:
    environment = {key: value for key, value in site.environment().items() if key != f"FARSHORE_{name}"}
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "farshore.agents.commands", command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert f"FARSHORE_{name} is not set" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
