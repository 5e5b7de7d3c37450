"""`farshore score` and `farshore bridge`: one worker each, as run in production."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Final

import typer

from ...streams.packages.loader import load_package
from .. import metrics
from ..bridge import make_bridge
from ..errors import SettingsError
from ..hub_access import hub_access
from ..scorer import make_scorer
from ..settings import Settings, load_settings
from ..worker import run_worker
from .options import ConfigOption

__all__ = ["bridge", "score"]

_STOP_SECONDS_MAX: Final = 40.0
_LOOK_SECONDS: Final = 0.2


def score(
    config: ConfigOption = None,
    model: Annotated[Path | None, typer.Option(help="The model package; default FARSHORE_MODEL.")] = None,
    processes: Annotated[
        int, typer.Option(min=1, max=256, help="Worker processes in one consumer group.")
    ] = 1,
) -> None:
    """Score events until a signal ends it."""
    settings = load_settings(config, model=model)
    if settings.model is None:
        raise SettingsError("FARSHORE_MODEL is not set; give the folder of a model package")
    # Before anything else, so that a refused package is told at once and by the parent alone.
    package = load_package(settings.model, intra_op_threads=settings.onnx_threads)
    if processes > 1:
        raise typer.Exit(_run_processes(settings, config, processes))
    metrics.serve_as_scorer()
    raise typer.Exit(run_worker(settings, lambda: make_scorer(settings, package)))


def bridge(config: ConfigOption = None) -> None:
    """Bring anomalies to Event Hubs until a signal ends it."""
    settings = load_settings(config)
    hub_access(settings)  # what is wrong with it is told at once, before a broker is waited for
    metrics.serve_as_bridge()
    raise typer.Exit(run_worker(settings, lambda: make_bridge(settings)))


def _run_processes(settings: Settings, config: Path | None, count: int) -> int:
    """`count` workers of one group, each on the next metrics port; all end when one fails or on a signal."""
    base = settings.metrics_port
    arguments = [sys.executable, "-m", "farshore.agents.commands", "score"]
    arguments += ["--model", str(settings.model)] + (["--config", str(config)] if config else [])
    workers = [
        subprocess.Popen(arguments, env=_environment(base + number if base else 0))  # noqa: S603  our own command
        for number in range(count)
    ]
    stopping = False

    def stop(_number: int, _frame: object) -> None:
        nonlocal stopping
        stopping = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    while not stopping and all(worker.poll() is None for worker in workers):
        time.sleep(_LOOK_SECONDS)
    for worker in workers:
        worker.terminate()
    deadline = time.monotonic() + _STOP_SECONDS_MAX
    for worker in workers:
        try:
            worker.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()
    return 0 if stopping else max(1, *(worker.returncode for worker in workers))


def _environment(metrics_port: int) -> dict[str, str]:
    import os

    return {**os.environ, "FARSHORE_METRICS_PORT": str(metrics_port)}
