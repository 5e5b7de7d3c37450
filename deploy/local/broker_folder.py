"""The data folder of an embedded broker: what lies in it, and how Kafka is run on it.

farshore-broker.json   cluster id and ports, so that a later start serves the same address
farshore-broker.lock   held while this folder's broker or its owner lives
server.properties      written anew at each start
log4j2.properties      written anew at each start
broker.log             the broker's own log, bounded to three files of 10 MB
output.log             what the Java run-time itself printed, anew at each start
topics/                Kafka's log directory
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from .broker_identity import Identity
from .broker_properties import log_properties, server_properties
from .errors import BrokerFailedError
from .folder_lock import FolderLock
from .guarded_process import GuardedProcess
from .java import Java
from .java_command import broker_options, java_command, tool_options
from .say import Say

__all__ = ["BrokerFolder"]

TAIL_LINES = 12
TAIL_BYTES_MAX = 16_384


class BrokerFolder:
    """One broker's data, locked from construction to `close()`; without a given path a temporary folder."""

    def __init__(self, given: Path | None, say: Say) -> None:
        self.path = given.absolute() if given else Path(tempfile.mkdtemp(prefix="farshore-broker-"))
        if "," in str(self.path):
            raise BrokerFailedError(f"Kafka takes no comma in the path of its data folder: {self.path}")
        self._temporary = given is None
        self._lock = FolderLock(self.path, say)

    def close(self) -> None:
        """Give the folder up; a temporary one is removed. Safe to call again."""
        self._lock.release()
        if self._temporary:
            shutil.rmtree(self.path, ignore_errors=True)

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
            self._server_file.write_text(text)
            self._log_settings.write_text(log_properties(self._broker_log))
            # Renamed into place: a start that is killed here must not cost the data their cluster id.
            unfinished = self._identity_file.with_suffix(".new")
            unfinished.write_text(json.dumps(asdict(identity)))
            unfinished.replace(self._identity_file)
        except OSError as reason:
            raise BrokerFailedError(f"cannot write to the data folder {self.path}: {reason}") from reason

    def format(self, java: Java, jars: Sequence[Path], identity: Identity, timeout_seconds: float) -> None:
        """Run Kafka's storage tool where it has not run yet; raises BrokerFailedError when it fails."""
        if (self._topics / "meta.properties").is_file():
            return
        command = java_command(java, jars, tool_options(self._log_settings))
        tool_arguments = ["format", "--cluster-id", identity.cluster_id, "--config", str(self._server_file)]
        tool = self._run([*command, "kafka.tools.StorageTool", *tool_arguments])
        try:
            status = tool.wait(timeout_seconds)
        finally:
            tool.kill()
        if status != 0:
            fate = "did not end in time" if status is None else f"ended with status {status}"
            raise BrokerFailedError(f"Kafka's storage tool {fate} on {self.path}:\n{self.log_tail()}")

    def run(self, java: Java, jars: Sequence[Path], heap_mb: int) -> GuardedProcess:
        """Start the broker itself."""
        command = java_command(java, jars, broker_options(self._log_settings, heap_mb))
        return self._run([*command, "kafka.Kafka", str(self._server_file)])

    def log_tail(self) -> str:
        """The last lines of the run-time's and of the broker's log, indented and without stack frames."""
        lines: list[str] = []
        for file in (self._output, self._broker_log):
            if file.is_file():
                text = file.read_bytes()[-TAIL_BYTES_MAX:].decode(errors="replace")
                told = [line for line in text.splitlines() if not line.startswith("\t")]
                lines += told[-TAIL_LINES:]
        return "\n".join(f"    {line}" for line in lines) or "    (no log)"

    def _run(self, command: Sequence[str]) -> GuardedProcess:
        return GuardedProcess(
            command,
            self._output,
            inherited=self._lock.inherited,
            remove_when_orphaned=self.path if self._temporary else None,
        )

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
    def _broker_log(self) -> Path:
        return self.path / "broker.log"

    @property
    def _output(self) -> Path:
        return self.path / "output.log"
