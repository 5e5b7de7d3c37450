"""Settings: `FARSHORE_…` in the environment, or a TOML file; the environment wins.

A wrong value is refused at start with its name, what is wrong and what would be right. Values of secrets
appear nowhere, in errors least of all.
"""

import os
import re
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from ..schemas.topics import TopicNames
from .errors import SettingsError

__all__ = ["PREFIX", "Guarantee", "Settings", "load_settings"]

PREFIX: Final = "FARSHORE_"

_TOPIC_NAME: Final = r"^[A-Za-z0-9._-]{1,249}$"
_HOST: Final = r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?"
_SITE: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"


def _bootstrap(value: str) -> str:
    for address in value.split(","):
        host, colon, port = address.strip().rpartition(":")
        if not (host and colon and port.isdigit() and 0 < int(port) < 65536):
            raise ValueError(f"{address.strip()!r} is no host:port; give host:port[,host:port…]")
    return value


class Guarantee(StrEnum):
    """How often a reader of committed records sees the results of one event after a crash."""

    AT_LEAST_ONCE = "at-least-once"
    EXACTLY_ONCE = "exactly-once"


def _host_port(value: str) -> str:
    host, _, port = value.partition(":")
    if not re.fullmatch(_HOST, host) or (":" in value and not (port.isdigit() and 0 < int(port) < 65536)):
        raise ValueError(f"{value!r} is no host or host:port; give it without sb:// or https://")
    return value


def _proxy(value: SecretStr | None) -> SecretStr | None:
    """Checked without being quoted: it may hold a password."""
    if value is None:
        return None
    try:
        parts = urlsplit(value.get_secret_value())
        good = parts.scheme == "http" and bool(parts.hostname and parts.port) and parts.path in ("", "/")
    except ValueError:
        good = False
    if not good:
        raise ValueError("it is no proxy's address; give http://[user:password@]host:port")
    return value


HostPort = Annotated[str, AfterValidator(_host_port)]
TopicName = Annotated[str, Field(pattern=_TOPIC_NAME)]


class Settings(BaseSettings):
    """Everything a worker can be told. The field `kafka_bootstrap` is FARSHORE_KAFKA_BOOTSTRAP, and so on."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True
    )

    kafka_bootstrap: Annotated[str, AfterValidator(_bootstrap)] = Field(
        "localhost:9092", description="The site's Kafka, host:port[,host:port…]."
    )
    site: str = Field("site", pattern=_SITE, description="This site's name; part of every anomaly's id.")
    model: Path | None = Field(None, description="The folder of the model package.")
    eventhub_connection_string: SecretStr | None = Field(
        None, description="Where the bridge delivers to. A secret: never printed."
    )
    eventhub_name: str | None = Field(None, description="The hub, when the connection string names none.")
    eventhub_connection_string_file: Path | None = Field(
        None, description="A file that holds the connection string; read again when it changes."
    )
    eventhub_namespace: HostPort | None = Field(
        None, description="`<name>.servicebus.windows.net`, where no connection string names it."
    )
    eventhub_sas_token_file: Path | None = Field(
        None, description="A file that holds a SAS token for the hub; read again when it changes."
    )
    eventhub_credential: str | None = Field(
        None,
        pattern="^(workload-identity|managed-identity|service-principal)$",
        description="Azure AD instead of keys; needs the extra `cloud`.",
    )
    eventhub_tenant_id: str | None = Field(None, description="Azure AD: the tenant.")
    eventhub_client_id: str | None = Field(
        None, description="Azure AD: the application, or the managed identity where there are several."
    )
    eventhub_client_secret_file: Path | None = Field(
        None, description="A file that holds the service principal's secret; read again when it changes."
    )
    eventhub_transport: str = Field(
        "amqp", pattern="^(amqp|websocket)$", description="AMQP over TCP (port 5671) or WebSockets (443)."
    )
    eventhub_proxy: Annotated[SecretStr | None, AfterValidator(_proxy)] = Field(
        None,
        description="An HTTP proxy on the way to the hub, http://[user:password@]host:port; "
        "with WebSockets only. A secret: never printed.",
    )
    eventhub_ca_file: Path | None = Field(
        None, description="Certificates (PEM) that are trusted beside the system's own."
    )
    eventhub_endpoint: HostPort | None = Field(
        None, description="host[:port] to connect to in place of the namespace's own, as with a private link."
    )
    metrics_port: int = Field(
        9464, ge=0, le=65535, description="Port of `/metrics`, `/healthz` and `/readyz`; 0 takes a free one."
    )
    metrics_host: str = Field("0.0.0.0", description="Address that this port listens on.")  # noqa: S104  scraped from elsewhere

    scorer_group: TopicName = Field("farshore-scorer", description="Consumer group of the scorers.")
    bridge_group: TopicName = Field("farshore-bridge", description="Consumer group of the bridge.")

    topic_events: TopicName = Field("events", description="Input: what the producers write.")
    topic_scored: TopicName = Field("scored", description="Output: one scored record an event.")
    topic_anomalies: TopicName = Field("anomalies", description="The durable store of anomalies.")
    topic_deliveries: TopicName = Field("deliveries", description="The outcome of each delivery.")
    topic_audit: TopicName = Field(
        "audit", description="What left, by batch; gaps, which topics were read; what a quota took; drills."
    )
    topic_dead_letters: TopicName = Field("dead-letters", description="Events that cannot be scored.")
    topic_models: TopicName = Field("models", description="Which model package the site runs.")
    topic_partitions: int = Field(4, ge=1, le=10_000, description="Partitions of topics that are created.")
    topic_replication: int = Field(1, ge=1, le=32, description="Replicas of topics that are created.")
    topic_in_sync_replicas_min: int = Field(
        1, ge=1, le=32, description="`min.insync.replicas` of topics that are created."
    )
    topic_event_bytes_max: int = Field(
        8_388_608,
        ge=1024,
        le=1_073_741_824,
        description="Largest message of an events topic that is created.",
    )

    event_bytes_max: int = Field(
        1_048_576, ge=64, le=1_073_741_824, description="A larger event is a dead letter, `too-large`."
    )
    batch_rows_max: int = Field(
        2_000,
        ge=1,
        le=1_000_000,
        description="Most rows of one model run; the best size up to it is measured at the start.",
    )
    batch_bytes_max: int = Field(
        2_097_152,
        ge=65_536,
        description="Bytes taken from Kafka at once, and at most one of the producer's batches more.",
    )
    outstanding_bytes_max: int = Field(
        4_194_304,
        ge=65_536,
        description="Bytes read and not settled, beyond which reading waits; twice in exactly-once mode.",
    )
    onnx_threads: int = Field(
        1, ge=1, le=256, description="Threads of one model run; with more, scores may differ in the last bit."
    )

    guarantee: Guarantee = Field(
        Guarantee.AT_LEAST_ONCE,
        description="Of the scorer: `at-least-once`, or `exactly-once` for readers of committed records.",
    )
    transaction_seconds_max: float = Field(
        60.0,
        ge=1,
        le=900,
        description="Exactly-once: a transaction open for longer is aborted by the broker.",
    )
    commit_interval_seconds: float = Field(1.0, gt=0, le=60, description="Between commits of offsets.")
    kafka_session_timeout_seconds: float = Field(
        30.0, ge=1, le=600, description="Without a heartbeat for this long a worker's partitions move on."
    )
    kafka_request_timeout_seconds: float = Field(
        40.0, ge=1, le=600, description="Longest wait for one answer of the broker."
    )
    kafka_max_poll_interval_seconds: float = Field(
        300.0, ge=1, le=86_400, description="Without a poll for this long a worker leaves its group."
    )

    kafka_metadata_age_seconds_max: float = Field(
        30.0, ge=0.5, le=3_600, description="How soon new partitions and topics made anew are noticed."
    )

    uplink_send_seconds_max: float = Field(4.5, ge=0.5, le=120, description="Longest time for one send.")
    uplink_connect_seconds_max: float = Field(
        10.0, ge=0.5, le=120, description="Longest time for a new connection to the hub."
    )
    uplink_backoff_seconds_min: float = Field(0.5, gt=0, le=60, description="First wait after a failure.")
    uplink_backoff_seconds_max: float = Field(
        30.0, gt=0, le=3_600, description="Longest wait between attempts while the uplink is away."
    )

    drain: str = Field(
        "oldest-first",
        pattern="^(oldest-first|severe-first)$",
        description="Order of a backlog: as it arose, or its severest anomalies first. Order within a device "
        "(and severity) is kept either way.",
    )
    drain_live_fraction: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Share of the link for what comes while a backlog drains; else it waits.",
    )
    bridge_outstanding_bytes_max: int = Field(
        16_777_216, ge=65_536, description="The same for the bridge, whose link may be far away."
    )
    uplink_batches_max: int = Field(
        4,
        ge=1,
        le=64,
        description="Batches under way together, each to another partition; what a crash may repeat.",
    )
    uplink_pack_anomalies_max: int = Field(
        1,
        ge=1,
        le=1_000,
        description="Anomalies in one event at most, as a JSON array, where the receiver can take it apart.",
    )
    uplink_kbits_per_second_max: float | None = Field(
        None, ge=1, description="Cap on the link in kbit/s; none by default."
    )
    uplink_events_per_second_max: float | None = Field(
        None, ge=1, description="Cap on the link in events a second; none by default."
    )

    policy: Path | None = Field(
        None, description="The compliance policy, a TOML file; without one six fields leave."
    )
    policy_secret_file: Path | None = Field(
        None, description="File with the site's secret for keyed hashes, 16 bytes or more."
    )
    policy_secret: SecretStr | None = Field(
        None, description="The same as a value; the file is better. A secret: never printed."
    )

    store_retention_days: float = Field(
        30.0, ge=0, le=36_500, description="How long a delivered anomaly stays; one not delivered stays."
    )
    store_held_retention_days: float | None = Field(
        None, ge=0, le=36_500, description="How long one that a policy holds back stays; for ever by default."
    )
    store_quota_bytes: int | None = Field(
        None, ge=1_048_576, description="What anomalies and deliveries may take on disk; without it anything."
    )
    store_high_water: float = Field(
        0.8, gt=0, lt=1, description="Share of the quota at which its policy acts: the rest is room to clean."
    )
    store_quota_policy: str = Field(
        "keep-all",
        pattern="^(keep-all|drop-lowest-severity)$",
        description="At the mark: only raise the alarm, or drop what waits, lowest severity first.",
    )
    store_settle_seconds: float = Field(
        25_200.0,
        ge=0.5,
        le=2_592_000,
        description="Between two drops: Kafka needs it to give room back (`segment.ms`, the cleaner's lag).",
    )
    store_interval_seconds: float = Field(
        60.0, ge=0.2, le=86_400, description="Between two looks of the store's keeper."
    )

    liveness_seconds_max: float = Field(
        120.0,
        ge=5,
        le=86_400,
        description="A worker ends itself when records wait and nothing happens for this long.",
    )
    lag_interval_seconds: float = Field(5.0, ge=0.2, le=600, description="Between two readings of the lag.")
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$", description="What is logged.")

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.event_bytes_max > self.topic_event_bytes_max:
            raise ValueError(
                "event_bytes_max is larger than topic_event_bytes_max: no event of that size could arrive"
            )
        if self.topic_in_sync_replicas_min > self.topic_replication:
            raise ValueError("topic_in_sync_replicas_min is larger than topic_replication")
        if self.kafka_session_timeout_seconds > self.kafka_request_timeout_seconds:
            raise ValueError("kafka_session_timeout_seconds is larger than kafka_request_timeout_seconds")
        if (
            self.guarantee is Guarantee.EXACTLY_ONCE
            and self.transaction_seconds_max >= self.kafka_max_poll_interval_seconds
        ):
            raise ValueError(
                "transaction_seconds_max must be less than kafka_max_poll_interval_seconds: "
                "a worker that the group has given up would hold back the readers of its results"
            )
        if self.uplink_backoff_seconds_min > self.uplink_backoff_seconds_max:
            raise ValueError("uplink_backoff_seconds_min is larger than uplink_backoff_seconds_max")
        if self.policy_secret is not None and self.policy_secret_file is not None:
            raise ValueError("policy_secret and policy_secret_file are both set; give one")
        if self.liveness_seconds_max < self.kafka_session_timeout_seconds:
            raise ValueError(
                "liveness_seconds_max is smaller than kafka_session_timeout_seconds: a group waits as "
                "long as that for a member that is gone"
            )
        if self.liveness_seconds_max < self.uplink_connect_seconds_max + self.uplink_send_seconds_max:
            raise ValueError(
                "liveness_seconds_max is smaller than uplink_connect_seconds_max + uplink_send_seconds_max: "
                "one attempt may take as long as that"
            )
        if self.liveness_seconds_max < 4 * self.lag_interval_seconds:
            raise ValueError(
                "liveness_seconds_max is smaller than four times lag_interval_seconds: a worker could not "
                "know what waits for it"
            )
        names = [name for field, name in self if field.startswith("topic_") and isinstance(name, str)]
        if len(set(names)) != len(names):
            raise ValueError("two topics have the same name; each needs its own")
        return self

    @property
    def topics(self) -> TopicNames:
        """The topics' names as one value."""
        return TopicNames(
            self.topic_events,
            self.topic_scored,
            self.topic_anomalies,
            self.topic_deliveries,
            self.topic_audit,
            self.topic_dead_letters,
            self.topic_models,
        )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then the file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def load_settings(config: Path | None = None, **given: Any) -> Settings:  # values of any field's type
    """The settings in force; raises SettingsError naming every wrong one."""
    if config is not None:
        _check_file(config)
    _check_environment()

    class FromFile(Settings):
        model_config = SettingsConfigDict(toml_file=config)

    try:
        return FromFile(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise SettingsError("; ".join(_sentence(problem) for problem in error.errors())) from None


def _check_file(config: Path) -> None:
    try:
        with config.open("rb") as file:
            names = set(tomllib.load(file))
    except OSError as error:
        raise SettingsError(f"--config {config} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"--config {config} is no TOML: {error}") from None
    unknown = sorted(names - set(Settings.model_fields))
    if unknown:
        raise SettingsError(f"--config {config} has unknown settings {', '.join(unknown)}")


def _check_environment() -> None:
    # A mistyped name would otherwise be ignored and the default used unseen.
    known = {PREFIX + name.upper() for name in (*Settings.model_fields, "cache", "pure_python")}
    unknown = sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known)
    if unknown:
        raise SettingsError(f"the environment has unknown settings {', '.join(unknown)}")


def _sentence(problem: Any) -> str:  # pydantic's ErrorDetails; its values are any
    place = ".".join(str(part) for part in problem["loc"])
    message = str(problem["msg"]).removeprefix("Value error, ")
    return f"{PREFIX}{place.upper()}: {message}" if place else message
