"""Settings: each wrong value is named with what is wrong, and a secret is never repeated."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from farshore.agents.errors import SettingsError
from farshore.agents.settings import PREFIX, Settings, load_settings

SECRET = "c2VjcmV0LXRoYXQtbXVzdC1ub3QtYmUtc2hvd24="


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("KAFKA_BOOTSTRAP", "localhost", "host:port"),
        ("KAFKA_BOOTSTRAP", "a:9092,b:99999", "'b:99999'"),
        ("KAFKA_BOOTSTRAP", "", "host:port"),
        ("SITE", "two words", "pattern"),
        ("METRICS_PORT", "70000", "65535"),
        ("TOPIC_EVENTS", "a/b", "pattern"),
        ("BATCH_ROWS_MAX", "0", "greater than or equal to 1"),
        ("BATCH_ROWS_MAX", "many", "integer"),
        ("LOG_LEVEL", "loud", "debug"),
        ("UPLINK_SEND_SECONDS_MAX", "0", "0.5"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    monkeypatch.setenv(PREFIX + name, value)
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert f"{PREFIX}{name}: " in str(refused.value)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"TOPIC_SCORED": "events"}, "two topics have the same name"),
        ({"EVENT_BYTES_MAX": "9000000"}, "event_bytes_max is larger than topic_event_bytes_max"),
        ({"TOPIC_IN_SYNC_REPLICAS_MIN": "2"}, "larger than topic_replication"),
        ({"KAFKA_SESSION_TIMEOUT_SECONDS": "50"}, "larger than kafka_request_timeout_seconds"),
        ({"UPLINK_BACKOFF_SECONDS_MIN": "40"}, "larger than uplink_backoff_seconds_max"),
        ({"LIVENESS_SECONDS_MAX": "29"}, "smaller than kafka_session_timeout_seconds"),
        ({"UPLINK_CONNECT_SECONDS_MAX": "119"}, "smaller than uplink_connect_seconds_max"),
        ({"LAG_INTERVAL_SECONDS": "31"}, "smaller than four times lag_interval_seconds"),
    ],
)
def test_values_that_do_not_go_together_are_refused(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, str], told: str
) -> None:
    for name, value in values.items():
        monkeypatch.setenv(PREFIX + name, value)
    with pytest.raises(SettingsError, match=told):
        load_settings()


def test_every_wrong_value_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PREFIX + "SITE", "?")
    monkeypatch.setenv(PREFIX + "METRICS_PORT", "-1")
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert PREFIX + "SITE" in str(refused.value)
    assert PREFIX + "METRICS_PORT" in str(refused.value)


def test_a_mistyped_name_is_refused_instead_of_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PREFIX + "KAFKA_BOOTSTRAPS", "localhost:9092")
    with pytest.raises(SettingsError, match="FARSHORE_KAFKA_BOOTSTRAPS"):
        load_settings()


def test_the_environment_wins_over_the_file_and_an_argument_over_both(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "farshore.toml"
    file.write_text('site = "file"\nmetrics_port = 9001\nlog_level = "error"\n')
    monkeypatch.setenv(PREFIX + "SITE", "environment")
    monkeypatch.setenv(PREFIX + "METRICS_PORT", "9002")
    settings = load_settings(file, metrics_port=9003)
    assert (settings.site, settings.metrics_port, settings.log_level) == ("environment", 9003, "error")


@pytest.mark.parametrize(
    ("text", "told"),
    [("site = ", "no TOML"), ('sites = "x"', "unknown settings sites"), ('site = "a b"', "SITE")],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "farshore.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=told):
        load_settings(file)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings(tmp_path / "nothing.toml")


def test_a_secret_is_in_no_error_and_in_no_representation(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    connection = f"Endpoint=sb://x.example/;SharedAccessKeyName=k;SharedAccessKey={SECRET};EntityPath=h"
    monkeypatch.setenv(PREFIX + "EVENTHUB_CONNECTION_STRING", connection)
    settings = load_settings()
    assert SECRET not in repr(settings) + str(settings) + settings.model_dump_json()
    monkeypatch.setenv(PREFIX + "SITE", "a b")
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert SECRET not in str(refused.value)
    file = tmp_path / "farshore.toml"
    file.write_text(f'eventhub_connection_string = ["{SECRET}"]\nsite = 1\n')
    monkeypatch.delenv(PREFIX + "EVENTHUB_CONNECTION_STRING")
    with pytest.raises(SettingsError) as refused:
        load_settings(file)
    assert SECRET not in str(refused.value)


def test_the_defaults_are_those_of_the_documentation() -> None:
    settings = Settings()
    assert settings.topics.events == "events"
    assert settings.topics.dead_letters == "dead-letters"
    assert settings.metrics_port == 9464


def test_a_file_that_is_no_utf8_is_refused_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "farshore.toml"
    file.write_bytes(b'site = "\xff"\n')
    with pytest.raises(SettingsError, match="is no TOML"):
        load_settings(file)
