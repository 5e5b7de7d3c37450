"""The data folder of an embedded broker: what lies in it, and how Kafka is run on it.

farshore-broker.json   cluster id and ports, so that a later start serves the same address
server.properties      written anew at each start
log4j2.properties      written anew at each start
broker.log             the broker's own log, bounded to a few files of 10 MB
output.log             what the Java run-time itself printed, anew at each start
topics/                Kafka's log directory
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Self

from .broker_properties import log_properties, server_properties
from .errors import BrokerFailedError
from .guarded_process import GuardedProcess
from .java import Java

__all__ = ["BrokerFolder", "Identity"]

TAIL_LINES = 12
TAIL_BYTES_MAX = 16_384


@dataclass(frozen=True)
class Identity:
    """What stays the same over the starts of one broker; a port of 0 is yet to be chosen."""

    cluster_id: str
    port: int = 0
    controller_port: int = 0
    listener_ports: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def ask(
        cls,
        known: Self | None,
        port: int,
        controller_port: int,
        extra_listeners: Mapping[str, tuple[int, int]],
    ) -> Self:
        """The known identity with the ports that are asked for now."""
        before = known or cls(_new_cluster_id())
        return replace(
            before,
            port=port or before.port,
            controller_port=controller_port or before.controller_port,
            listener_ports={
                name: bind_port or before.listener_ports.get(name, 0)
                for name, (bind_port, _) in extra_listeners.items()
            },
        )

    def with_ports(self, port: int) -> Self:
        """The same with another port for clients, and the controller's chosen anew."""
        return replace(self, port=port, controller_port=0)

    def with_free_ports(self, free_ports: Callable[[int], tuple[int, ...]]) -> Self:
        """The same with every port of 0 replaced by a free one."""
        unchosen = list(self.ports()).count(0)
        free = iter(free_ports(unchosen))
        return replace(
            self,
            port=self.port or next(free),
            controller_port=self.controller_port or next(free),
            listener_ports={name: bound or next(free) for name, bound in self.listener_ports.items()},
        )

    def ports(self) -> tuple[int, ...]:
        """Every port that the broker listens on."""
        return (self.port, self.controller_port, *self.listener_ports.values())


@dataclass(frozen=True)
class BrokerFolder:
    """A folder with one broker's data; `temporary` folders are removed even if this process is killed."""

    path: Path
    temporary: bool

    def identity(self) -> Identity | None:
        """What an earlier start wrote down; None in a new folder."""
        try:
            return Identity(**json.loads(self._identity_file.read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as reason:
            raise BrokerFailedError(f"cannot read {self._identity_file}: {reason}") from reason

    def configure(
        self, identity: Identity, extra_listeners: Mapping[str, tuple[int, int]], more: Mapping[str, str]
    ) -> None:
        """Write identity and configuration for the next run."""
        listeners = {
            name: (identity.listener_ports[name], told) for name, (_, told) in extra_listeners.items()
        }
        text = server_properties(self._topics, identity.port, identity.controller_port, listeners, more)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._identity_file.write_text(json.dumps(asdict(identity)))
            self._server_file.write_text(text)
            self._log_settings.write_text(log_properties(self.path / "broker.log"))
        except OSError as reason:
            raise BrokerFailedError(f"cannot write to the data folder {self.path}: {reason}") from reason

    def java_command(self, java: Java, jars: Sequence[Path], heap_mb: int) -> list[str]:
        """The command line up to the main class."""
        return [
            str(java.program),
            f"-Xmx{heap_mb}m",
            "-XX:+ExitOnOutOfMemoryError",
            "-Djava.awt.headless=true",
            f"-Dlog4j2.configurationFile={self._log_settings}",
            "-cp",
            ":".join(str(jar) for jar in jars),
        ]

    def formatted(self) -> bool:
        """Whether Kafka's log directory is ready for a broker."""
        return (self._topics / "meta.properties").is_file()

    def format(self, command: Sequence[str], identity: Identity, timeout_seconds: float) -> None:
        """Run Kafka's storage tool; raises BrokerFailedError when it fails or takes too long."""
        arguments = [
            "kafka.tools.StorageTool",
            "format",
            "-t",
            identity.cluster_id,
            "-c",
            str(self._server_file),
        ]
        tool = GuardedProcess([*command, *arguments], self._output, self._removable)
        try:
            status = tool.wait(timeout_seconds)
        finally:
            tool.kill()
        if status != 0:
            told = "in time" if status is None else f"(status {status})"
            raise BrokerFailedError(
                f"Kafka's storage tool could not format {self.path} {told}:\n{self.log_tail()}"
            )

    def run(self, command: Sequence[str]) -> GuardedProcess:
        """Start the broker itself."""
        return GuardedProcess(
            [*command, "kafka.Kafka", str(self._server_file)], self._output, self._removable
        )

    def log_tail(self) -> str:
        """The last lines of what the run-time printed and of the broker's log, indented."""
        lines: list[str] = []
        for file in (self._output, self.path / "broker.log"):
            if file.is_file():
                text = file.read_bytes()[-TAIL_BYTES_MAX:].decode(errors="replace")
                lines += text.splitlines()[-TAIL_LINES:]
        return "\n".join(f"    {line}" for line in lines) or "    (no log)"

    @property
    def _removable(self) -> Path | None:
        return self.path if self.temporary else None

    @property
    def _topics(self) -> Path:
        return self.path / "topics"

    @property
    def _identity_file(self) -> Path:
        return self.path / "farshore-broker.json"

    @property
    def _server_file(self) -> Path:
        return self.path / "server.properties"

    @property
    def _log_settings(self) -> Path:
        return self.path / "log4j2.properties"

    @property
    def _output(self) -> Path:
        return self.path / "output.log"


def _new_cluster_id() -> str:
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):  # the storage tool would take it for an option
            return text
