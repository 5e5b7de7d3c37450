"""`farshore`: every command and what an error looks like.

Exit codes: 0 done, 1 failed with one clear line on stderr, 2 wrong usage. Errors a user can mend are
FarshoreErrors and PackageErrors; they never print a traceback.
"""

import importlib
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Annotated, Final

import typer

from ...streams.packages.loader import PackageError
from ..errors import FarshoreError
from ..logs import quiet_libraries
from .check import check
from .drill import drill
from .model import model_app
from .replay import replay
from .status import status
from .store import store_app
from .workers import bridge, score

__all__ = ["app", "run"]

app: Final = typer.Typer(
    help="Scores events at the edge with ONNX on Kafka, and brings the anomalies home when the line is up.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command()(score)
app.command()(bridge)
app.command()(replay)
app.command()(check)
app.command()(status)
app.command()(drill)
app.add_typer(model_app, name="model")
app.add_typer(store_app, name="store")


@app.command()
def demo(
    events: Annotated[int, typer.Option(min=1_000, max=100_000_000, help="Events to simulate.")] = 120_000,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")] = False,
    folder: Annotated[Path | None, typer.Option(help="Keep the broker's data and the package here.")] = None,
) -> None:
    """Run the main job on this machine: broker, fleet, scoring, a cut uplink, and the receipt."""
    raise typer.Exit(int(_local("demo").run_demo(events=events, as_json=json, folder=folder)))


@app.command()
def up(
    folder: Annotated[Path, typer.Option(help="Where the broker keeps its data.")] = Path(".farshore"),
) -> None:
    """Run the whole site for development until Ctrl-C: broker, scorer, bridge, Event Hubs stand-in."""
    raise typer.Exit(int(_local("up").run_up(folder=folder)))


def _local(name: str) -> ModuleType:
    """A module of the `[local]` extra, imported only when its command is given."""
    try:
        return importlib.import_module(f"farshore.local.{name}")
    except ModuleNotFoundError as error:
        raise FarshoreError(
            f"this command needs the extra [local] ({error.name} is missing): pip install 'farshore[local]'"
        ) from None


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"farshore {version('farshore')}")
        raise typer.Exit


@app.callback()
def _main(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before any command."""


def run() -> None:
    """The console script: errors to one line and an exit code."""
    quiet_libraries()
    try:
        app()
    except (FarshoreError, PackageError) as error:
        typer.echo(f"farshore: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
