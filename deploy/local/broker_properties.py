"""The configuration texts of the embedded broker: Kafka's `server.properties` and its log4j 2 settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .ports import LOOPBACK

__all__ = ["NODE_ID", "VALUE_BYTES_MAX", "log_properties", "server_properties", "tool_log_properties"]

NODE_ID = 1
VALUE_BYTES_MAX = 16 * 1024 * 1024
RECORD_OVERHEAD_BYTES = 64 * 1024
OFFSETS_RETENTION_MINUTES = 365 * 24 * 60  # outlives any outage of the uplink

FIXED: Mapping[str, str] = {
    "process.roles": "broker,controller",
    "node.id": str(NODE_ID),
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    # A missing topic is an error to be told, never made with whatever defaults.
    "auto.create.topics.enable": "false",
    "num.partitions": "4",
    "default.replication.factor": "1",
    # Internal topics for a single node, small so that a first group or transaction is quick.
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "4",
    "group.initial.rebalance.delay.ms": "0",
    "offsets.retention.minutes": str(OFFSETS_RETENTION_MINUTES),
    "message.max.bytes": str(VALUE_BYTES_MAX + RECORD_OVERHEAD_BYTES),
    "replica.fetch.max.bytes": str(VALUE_BYTES_MAX + RECORD_OVERHEAD_BYTES),
    # Retention and compaction act within seconds, so that a drill or a test sees them.
    "log.initial.task.delay.ms": "1000",
    "log.retention.check.interval.ms": "5000",
    "log.cleaner.backoff.ms": "1000",
    # The default of 128 MB would be a quarter of the heap.
    "log.cleaner.dedupe.buffer.size": str(32 * 1024 * 1024),
    # After a crash the broker may register again only when its old session is over: 3 s rather than 9.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "background.threads": "2",
}


def server_properties(
    log_folder: Path,
    port: int,
    controller_port: int,
    extra_listeners: Mapping[str, tuple[int, int]],
    more: Mapping[str, str],
) -> str:
    """The broker's properties file; `extra_listeners` maps a name to (bind_port, advertised_port), `more`
    wins."""
    bound = {"PLAINTEXT": port, **{name: ports[0] for name, ports in extra_listeners.items()}}
    told = {"PLAINTEXT": port, **{name: ports[1] for name, ports in extra_listeners.items()}}
    addresses = {
        "listeners": _addresses({**bound, "CONTROLLER": controller_port}),
        "advertised.listeners": _addresses(told),
        "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in [*bound, "CONTROLLER"]),
        "controller.quorum.voters": f"{NODE_ID}@{LOOPBACK}:{controller_port}",
        "log.dirs": str(log_folder),
    }
    properties = {**FIXED, **addresses, **more}
    return "".join(f"{name}={_escaped(value)}\n" for name, value in sorted(properties.items()))


def log_properties(log_file: Path) -> str:
    """log4j 2 settings: warnings and the server's own life to one bounded file, nothing to the terminal."""
    return f"""\
status = error
appenders = file
appender.file.type = RollingFile
appender.file.name = file
appender.file.fileName = {_escaped(str(log_file))}
appender.file.filePattern = {_escaped(str(log_file))}.%i
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d %p %m (%c)%n
appender.file.policies.type = Policies
appender.file.policies.size.type = SizeBasedTriggeringPolicy
appender.file.policies.size.size = 10MB
appender.file.strategy.type = DefaultRolloverStrategy
appender.file.strategy.max = 2
rootLogger.level = warn
rootLogger.appenderRefs = file
rootLogger.appenderRef.file.ref = file
loggers = server
logger.server.name = kafka.server.KafkaRaftServer
logger.server.level = info
"""


def tool_log_properties() -> str:
    """log4j 2 settings of a command line tool: errors alone, to standard error."""
    return """\
status = error
appenders = console
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %p %m%n
rootLogger.level = error
rootLogger.appenderRefs = console
rootLogger.appenderRef.console.ref = console
"""


def _addresses(ports: Mapping[str, int]) -> str:
    return ",".join(f"{name}://{LOOPBACK}:{port}" for name, port in ports.items())


def _escaped(value: str) -> str:
    """A value for Java's properties format, which is read as Latin-1 with UTF-16 escapes."""
    units = value.replace("\\", "\\\\").encode("utf-16-be")
    codes = (int.from_bytes(units[at : at + 2]) for at in range(0, len(units), 2))
    return "".join(chr(code) if 32 <= code < 127 else f"\\u{code:04x}" for code in codes)
