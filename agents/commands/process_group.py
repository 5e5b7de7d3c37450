"""Several workers of one consumer group under one parent, with one fate.

Guarantees
- A signal that comes at any moment, also between two starts, ends every worker that was started.
- When one worker ends, or cannot be started, all end, and the exit code says so.
- When the parent is gone, `kill -9` included, each worker stops by itself within ORPHAN_SECONDS_MAX.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Final

from ..errors import SettingsError
from ..settings import PREFIX, Settings

__all__ = ["ORPHAN_SECONDS_MAX", "PARENT_OPTION", "run_processes", "stop_with_parent"]

PARENT_OPTION: Final = "--parent"
"""How a worker is told whose child it is."""

ORPHAN_SECONDS_MAX: Final = 12.0

_STOP_SECONDS_MAX: Final = 40.0
_LOOK_SECONDS: Final = 0.2
_PARENT_LOOK_SECONDS: Final = 0.5
_PORT_MAX: Final = 65_535


def run_processes(settings: Settings, config: Path | None, count: int) -> int:
    """`count` workers of one group, each on the next metrics port; the exit code. Raises SettingsError."""
    base = settings.metrics_port
    if base and base + count - 1 > _PORT_MAX:
        raise SettingsError(
            f"{PREFIX}METRICS_PORT: {count} processes from port {base} on would pass {_PORT_MAX}; "
            f"give a port up to {_PORT_MAX - count + 1}, or 0 for any free ones"
        )
    stopping = threading.Event()
    # Before the first child: a signal in between would end this process alone.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    workers: list[subprocess.Popen[bytes]] = []
    try:
        while len(workers) < count and not stopping.is_set():
            workers.append(_start(settings, config, base + len(workers) if base else 0))
        while not stopping.is_set() and all(worker.poll() is None for worker in workers):
            time.sleep(_LOOK_SECONDS)
    finally:
        _end(workers)
    return 0 if stopping.is_set() else max(1, *(worker.returncode for worker in workers))


def _start(settings: Settings, config: Path | None, metrics_port: int) -> "subprocess.Popen[bytes]":
    arguments = [sys.executable, "-m", "farshore.agents.commands", "score", PARENT_OPTION, str(os.getpid())]
    arguments += ["--model", str(settings.model)] + (["--config", str(config)] if config else [])
    environment = {**os.environ, PREFIX + "METRICS_PORT": str(metrics_port)}
    return subprocess.Popen(arguments, env=environment)  # noqa: S603  our own command


def _end(workers: "list[subprocess.Popen[bytes]]") -> None:
    for worker in workers:
        worker.terminate()
    deadline = time.monotonic() + _STOP_SECONDS_MAX
    for worker in workers:
        try:
            worker.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()


def stop_with_parent(parent: int) -> None:
    """Have this process stop as by a signal when `parent` is its parent no more, and end if that fails.

    A look at the parent's id rather than Linux's parent-death signal, which watches a thread of the parent.
    """
    threading.Thread(target=_watch, args=(parent,), name="parent", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_PARENT_LOOK_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    # A loop that is held obeys no signal.
    time.sleep(ORPHAN_SECONDS_MAX - _PARENT_LOOK_SECONDS)
    os._exit(1)
