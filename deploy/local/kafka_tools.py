"""Kafka's own command line tools from the same jar files as the embedded broker.

For reading what we wrote with a client that is not ours. Each call is one short-lived Java process, bounded
in time and ended with this Python process.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from .broker_properties import tool_log_properties
from .errors import BrokerFailedError
from .guarded_process import GuardedProcess
from .java import find_java
from .java_command import java_command, tool_options
from .kafka_jars import kafka_jars
from .say import Say, silent

__all__ = ["console_consumer", "run_kafka_tool"]

CONSOLE_CONSUMER = "org.apache.kafka.tools.consumer.ConsoleConsumer"
ERROR_LINES = 6


def run_kafka_tool(
    main_class: str, arguments: Sequence[str], timeout_seconds: float, say: Say = silent
) -> bytes:
    """Run a tool and return what it printed to standard output.

    Raises BrokerFailedError, with the last lines of its standard error, when it fails or takes too long.
    """
    with tempfile.TemporaryDirectory(prefix="farshore-tool-") as folder:
        printed, complained = Path(folder, "output"), Path(folder, "errors")
        log_settings = Path(folder, "log4j2.properties")
        log_settings.write_text(tool_log_properties())
        command = java_command(find_java(), kafka_jars(say), tool_options(log_settings))
        tool = GuardedProcess([*command, main_class, *arguments], printed, complained)
        try:
            status = tool.wait(timeout_seconds)
        finally:
            tool.kill()
        if status != 0:
            fate = (
                f"took longer than {timeout_seconds:g} s" if status is None else f"ended with status {status}"
            )
            lines = complained.read_text(errors="replace").splitlines()[-ERROR_LINES:]
            raise BrokerFailedError(f"{main_class} {fate}: " + "\n".join(lines))
        return printed.read_bytes()


def console_consumer(
    bootstrap: str,
    topic: str,
    *,
    count_max: int | None = None,
    idle_seconds_max: float = 5.0,
    timeout_seconds: float = 60.0,
    properties: Mapping[str, str] | None = None,
) -> list[str]:
    """Read a topic from its beginning with Kafka's console consumer; one string a record's value, decoded as
    UTF-8.

    Ends after `count_max` records, or when no record came for `idle_seconds_max`. `properties` are consumer
    settings, such as `isolation.level`. A value that contains a line break counts as several.
    """
    arguments = ["--bootstrap-server", bootstrap, "--topic", topic, "--from-beginning"]
    arguments += ["--timeout-ms", str(round(idle_seconds_max * 1000))]
    if count_max is not None:
        arguments += ["--max-messages", str(count_max)]
    for name, value in (properties or {}).items():
        arguments += ["--consumer-property", f"{name}={value}"]
    output = run_kafka_tool(CONSOLE_CONSUMER, arguments, timeout_seconds)
    return output.decode(errors="replace").split("\n")[:-1]
