"""The embedded broker: Apache Kafka itself on this machine, one node in KRaft mode, for `demo`, `up` and the
tests.

Guarantees
- Listens on 127.0.0.1 only. Ports are chosen free at the first start and kept for every later start on its
  data.
- `start()` returns once the broker answers a metadata request, or raises a LocalBrokerError within
  `start_seconds_max`; an early death is told with the last lines of the broker's log.
- The broker ends with this Python process, however that ends (see guarded_process); temporary data go with
  it.
- With FARSHORE_KAFKA_BOOTSTRAP set, `bootstrap_or_embedded` starts nothing.

Not guaranteed: one node writes to the page cache unless a topic flushes, so a power cut may lose what was
acknowledged (a killed broker does not). One object is used from one thread at a time; `start` and `stop`
block, so call them outside of an event loop or through `asyncio.to_thread`.
"""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from .broker_folder import BrokerFolder
from .broker_identity import Identity
from .broker_probe import broker_answers
from .errors import BrokerFailedError
from .guarded_process import GuardedProcess
from .java import find_java
from .kafka_jars import kafka_jars
from .ports import LOOPBACK, port_is_free
from .say import Say, silent

__all__ = ["BOOTSTRAP_VARIABLE", "BrokerSettings", "EmbeddedBroker", "bootstrap_or_embedded"]

BOOTSTRAP_VARIABLE = "FARSHORE_KAFKA_BOOTSTRAP"
PROBE_SECONDS_MAX = 2.0
PROBE_PAUSE_SECONDS = 0.05
PORT_SECONDS_MAX = 5.0


@dataclass(frozen=True)
class BrokerSettings:
    """What an embedded broker is asked to be; a port of 0 is chosen free.

    `data`: folder kept across starts; None is a temporary folder, removed at `stop()`.
    `extra_listeners`: name to (bind_port, advertised_port), for tests that put a proxy before the broker.
    `properties`: Kafka's own broker settings; they win over the built-in ones.
    """

    data: Path | None = None
    port: int = 0
    controller_port: int = 0
    heap_mb: int = 512
    extra_listeners: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)
    start_seconds_max: float = 60.0
    stop_seconds_max: float = 15.0


class EmbeddedBroker:
    """One broker; `with EmbeddedBroker() as broker:` or `start()` and `stop()`."""

    def __init__(self, settings: BrokerSettings | None = None, say: Say = silent) -> None:
        self._settings = settings or BrokerSettings()
        self._say = say
        self._owner = os.getpid()
        self._folder: BrokerFolder | None = None
        self._identity: Identity | None = None
        self._process: GuardedProcess | None = None

    @property
    def bootstrap(self) -> str:
        """The address for clients, `127.0.0.1:port`; known from the first `start()` on."""
        return f"{LOOPBACK}:{self._known().port}"

    def listener(self, name: str) -> str:
        """The address that the extra listener `name` is bound to (not the one it advertises)."""
        return f"{LOOPBACK}:{self._known().listener_ports[name]}"

    @property
    def folder(self) -> Path:
        """The data folder: the given one, or the temporary one of this run."""
        if self._folder is None:
            raise BrokerFailedError("the embedded broker was not started")
        return self._folder.path

    @property
    def pid(self) -> int:
        """The broker's process id, for tests that freeze or measure it."""
        if self._process is None:
            raise BrokerFailedError("the embedded broker is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the broker's process is alive; it may still be starting."""
        return self._process is not None and self._process.running()

    def start(self) -> Self:
        """Start, or start again on the same ports and data; returns when the broker answers."""
        if self.running:
            return self
        try:
            self._launch()
            self._await_answer()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """SIGTERM, SIGKILL after `stop_seconds_max`; temporary data are removed. Safe to call again."""
        if os.getpid() != self._owner:
            return  # a forked copy of this object does not own the broker
        self._end()
        atexit.unregister(self.stop)
        if self._folder is not None:
            self._folder.close()
            self._folder = None

    def restart(self) -> Self:
        """End in good order and start again on the same ports and data."""
        self._end()
        return self.start()

    def kill(self) -> None:
        """SIGKILL, as a crash; ports and data (temporary ones too) stay for the next `start()`."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _known(self) -> Identity:
        if self._identity is None:
            raise BrokerFailedError("the embedded broker was not started")
        return self._identity

    def _end(self) -> None:
        if self._process is not None:
            self._process.end(self._settings.stop_seconds_max)
            self._process = None

    def _launch(self) -> None:
        self._end()  # one that died by itself still has a watcher, which would hold the folder's lock
        settings = self._settings
        java = find_java()
        jars = kafka_jars(self._say)
        if self._folder is None:
            self._folder = BrokerFolder(settings.data, self._say)
            atexit.register(self.stop)
        folder = self._folder
        self._identity = self._identify(folder)
        folder.configure(self._identity, settings.extra_listeners, settings.properties)
        folder.format(java, jars, self._identity, settings.start_seconds_max)
        self._process = folder.run(java, jars, settings.heap_mb)

    def _identify(self, folder: BrokerFolder) -> Identity:
        """Ports and cluster id: as they were when the data have them, else new."""
        settings = self._settings
        known = self._identity or folder.identity()
        if self._identity is None and known is not None and not all(map(port_is_free, known.ports())):
            # Another program took a port while nothing ran here; nobody holds the old address any more.
            known = known.without_ports()
        asked = Identity.ask(known, settings.port, settings.controller_port, settings.extra_listeners)
        chosen = asked.with_free_ports()
        for port in chosen.ports():
            _await_free(port)
        return chosen

    def _await_answer(self) -> None:
        assert self._process is not None
        assert self._folder is not None
        deadline = time.monotonic() + self._settings.start_seconds_max
        port = self._known().port
        while not broker_answers(LOOPBACK, port, PROBE_SECONDS_MAX):
            status = self._process.wait(PROBE_PAUSE_SECONDS)
            if status is not None:
                raise BrokerFailedError(
                    f"the broker ended with status {status} before it answered:\n{self._folder.log_tail()}"
                )
            if time.monotonic() > deadline:
                raise BrokerFailedError(
                    f"the broker did not answer on {self.bootstrap} within "
                    f"{self._settings.start_seconds_max:g} s:\n{self._folder.log_tail()}"
                )


def _await_free(port: int) -> None:
    deadline = time.monotonic() + PORT_SECONDS_MAX
    while not port_is_free(port):
        if time.monotonic() > deadline:
            raise BrokerFailedError(f"port {port} on {LOOPBACK} is in use by another program")
        time.sleep(PROBE_PAUSE_SECONDS)


@contextmanager
def bootstrap_or_embedded(
    settings: BrokerSettings | None = None,
    say: Say = silent,
    environment: Mapping[str, str] = os.environ,
) -> Iterator[str]:
    """Yield the address of the user's own Kafka when FARSHORE_KAFKA_BOOTSTRAP names one, else of an embedded
    one.

    The user's Kafka is neither probed nor changed; the embedded one is stopped at the end.
    """
    if given := environment.get(BOOTSTRAP_VARIABLE, "").strip():
        yield given
        return
    with EmbeddedBroker(settings, say) as broker:
        yield broker.bootstrap
