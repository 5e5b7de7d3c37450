"""`farshore score` and `farshore bridge`: one worker each, as run in production."""

from pathlib import Path
from typing import Annotated

import typer

from ...streams.packages.loader import load_package
from .. import metrics
from ..bridge import make_bridge
from ..errors import SettingsError
from ..policy_file import load_policy
from ..scorer import largest_anomaly, make_scorer
from ..settings import load_settings
from ..worker import run_worker
from .options import ConfigOption
from .process_group import PARENT_OPTION, run_processes, stop_with_parent

__all__ = ["bridge", "score"]


def score(
    config: ConfigOption = None,
    model: Annotated[Path | None, typer.Option(help="The model package; default FARSHORE_MODEL.")] = None,
    processes: Annotated[
        int, typer.Option(min=1, max=256, help="Worker processes in one consumer group.")
    ] = 1,
    parent: Annotated[int | None, typer.Option(PARENT_OPTION, hidden=True)] = None,
) -> None:
    """Score events until a signal ends it."""
    if parent is not None:
        stop_with_parent(parent)
    settings = load_settings(config, model=model)
    if settings.model is None:
        raise SettingsError("FARSHORE_MODEL is not set; give the folder of a model package")
    # Before anything else, so that a refused package is told at once and by the parent alone.
    package = load_package(settings.model, intra_op_threads=settings.onnx_threads)
    if processes > 1:
        raise typer.Exit(run_processes(settings, config, processes))
    metrics.serve_as_scorer()
    size = largest_anomaly(settings, package)
    raise typer.Exit(run_worker(settings, lambda: make_scorer(settings, package), anomaly_bytes_max=size))


def bridge(config: ConfigOption = None) -> None:
    """Bring anomalies to Event Hubs until a signal ends it."""
    settings = load_settings(config)
    if settings.eventhub_connection_string is None:
        raise SettingsError(
            "FARSHORE_EVENTHUB_CONNECTION_STRING is not set; the bridge needs the hub's connection string"
        )
    load_policy(settings)  # before anything else: a wrong policy is told at once
    metrics.serve_as_bridge()
    raise typer.Exit(run_worker(settings, lambda: make_bridge(settings)))
