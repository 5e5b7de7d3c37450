"""A whole site on this machine: broker, scorer, bridge and Event Hubs stand-in, each a process of its own.

Guarantees: everything ends with this process, however that ends; each worker's log is a file in the site's
folder; a worker killed with -9 is started again by whoever asked for its death, as a supervisor would.
"""

import json
import shutil
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from prometheus_client.parser import text_string_to_metric_families

from ..agents.exposition import READY_PATH
from ..agents.health import Step
from ..agents.settings import Settings, load_settings
from .broker import BrokerSettings, bootstrap_or_embedded
from .errors import BrokerFailedError
from .eventhubs.control import Control
from .guarded_process import GuardedProcess
from .ports import free_ports
from .process_environment import worker_environment
from .say import Say, silent

__all__ = ["LocalSite", "SiteSettings"]

START_SECONDS_MAX: Final = 60.0
STOP_SECONDS_MAX: Final = 20.0
_LOOK_SECONDS: Final = 0.1
_SCRAPE_SECONDS_MAX: Final = 2.0
_LOG_LINES: Final = 8


@dataclass(frozen=True, slots=True)
class SiteSettings:
    """`folder` keeps the broker's data, None is a temporary one; `extra` are further settings of workers."""

    package: Path
    folder: Path | None = None
    site: str = "demo"
    hub_partitions: int = 4
    extra: Mapping[str, str] = field(default_factory=dict)


class LocalSite:
    """`with LocalSite(...) as site:` starts everything and ends everything."""

    def __init__(self, settings: SiteSettings, say: Say = silent) -> None:
        self._settings = settings
        self._say = say
        self._stack = ExitStack()
        self._workers: dict[str, GuardedProcess] = {}
        self._starts = 0
        self._environment: dict[str, str] = {}
        self.settings: Settings
        self.control: Control
        self.folder: Path
        self.metrics_ports: dict[str, int] = {}

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def start_worker(self, name: str) -> None:
        """Start `score` or `bridge`; returns when its topics are checked, not when it has joined."""
        port = self.metrics_ports[name]
        environment = self._environment | {"FARSHORE_METRICS_PORT": str(port)}
        self._run(name, ["farshore.agents.commands", name], environment)
        self._await(name, lambda: self._topics_checked(name))

    def kill_worker(self, name: str) -> None:
        """SIGKILL: nothing is told, nothing is saved."""
        self._workers.pop(name).kill()

    def running(self, name: str) -> bool:
        """Whether the worker's process lives."""
        return name in self._workers and self._workers[name].running()

    def metrics(self, name: str) -> dict[str, float] | None:
        """Sums of the worker's metrics by name, and by `name{label=value}`; None if it is silent."""
        url = f"http://127.0.0.1:{self.metrics_ports[name]}/metrics"
        try:
            with urllib.request.urlopen(url, timeout=_SCRAPE_SECONDS_MAX) as answer:
                text = answer.read().decode()
        except OSError:
            return None
        sums: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
                for label, value in sample.labels.items():
                    key = f"{sample.name}{{{label}={value}}}"
                    sums[key] = sums.get(key, 0.0) + sample.value
        return sums

    def _topics_checked(self, name: str) -> bool:
        url = f"http://127.0.0.1:{self.metrics_ports[name]}{READY_PATH}"
        try:
            with urllib.request.urlopen(url, timeout=_SCRAPE_SECONDS_MAX) as answer:
                body = answer.read()
        except urllib.error.HTTPError as not_ready:
            body = not_ready.read()
        except OSError:
            return False
        return Step.TOPICS.value not in json.loads(body)["missing"]

    def log_tail(self, name: str) -> str:
        """The last lines of the worker's newest log."""
        logs = sorted(self.folder.glob(f"*-{name}.log"))
        lines = logs[-1].read_text("utf-8", "replace").splitlines() if logs else []
        return "\n".join(lines[-_LOG_LINES:])

    def _start(self) -> None:
        if self._settings.folder is None:
            self.folder = Path(
                self._stack.enter_context(tempfile.TemporaryDirectory(prefix="farshore-site-"))
            )
        else:
            self.folder = self._settings.folder
            self.folder.mkdir(parents=True, exist_ok=True)
        broker = BrokerSettings(data=None if self._settings.folder is None else self.folder / "kafka")
        bootstrap = self._stack.enter_context(bootstrap_or_embedded(broker, self._say))
        self._say("starting the Event Hubs stand-in, the scorer and the bridge")
        # Workers end before the broker does: the stack unwinds from the top.
        self._stack.callback(self._end_workers)
        connection_string = self._start_hub()
        shutil.copytree(self._settings.package, self.folder / "package", dirs_exist_ok=True)
        given = {
            "kafka_bootstrap": bootstrap,
            "site": self._settings.site,
            "model": str(self.folder / "package"),
            "eventhub_connection_string": connection_string,
            "metrics_host": "127.0.0.1",
            "lag_interval_seconds": "1",
            **self._settings.extra,
        }
        self._environment = worker_environment(given)
        self.settings = load_settings(None, **given)
        ports = free_ports(2)
        self.metrics_ports = {"score": ports[0], "bridge": ports[1]}
        self.start_worker("score")
        self.start_worker("bridge")

    def _start_hub(self) -> str:
        arguments = ["farshore.local.eventhubs", "--partitions", str(self._settings.hub_partitions)]
        printed = self._run("hub", arguments, worker_environment({}))
        self._await("hub", lambda: printed.read_text().endswith("\n"))
        address = json.loads(printed.read_text().splitlines()[0])
        self.control = Control(int(address["control_port"]))
        return str(address["connection_string"])

    def _run(self, name: str, module: list[str], environment: Mapping[str, str]) -> Path:
        self._starts += 1
        log = self.folder / f"{self._starts:03d}-{name}.log"
        self._workers[name] = GuardedProcess(
            [sys.executable, "-m", *module],
            log,
            log.with_suffix(".err") if name == "hub" else None,
            environment=environment,
        )
        return log

    def _await(self, name: str, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS_MAX
        while not ready():
            if not self.running(name) or time.monotonic() > deadline:
                raise BrokerFailedError(f"{name} did not start; its log ends with:\n{self.log_tail(name)}")
            time.sleep(_LOOK_SECONDS)

    def _end_workers(self) -> None:
        # The bridge first: it talks to both the others.
        for name in ("bridge", "score", "hub"):
            if name in self._workers:
                self._workers.pop(name).end(STOP_SECONDS_MAX)
