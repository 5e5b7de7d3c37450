"""`farshore drill`: cut the uplink of a running site, wait, restore it, verify, print the receipt."""

import json
from typing import Annotated

import typer
import uvloop

from ...streams.delivery.hold import HOLD_SECONDS_MAX
from ..drill import MARGIN_SECONDS, run_drill
from ..policy_file import load_policy
from ..settings import load_settings
from .options import ConfigOption

__all__ = ["drill"]


def drill(
    config: ConfigOption = None,
    seconds: Annotated[
        float, typer.Option(min=1, max=HOLD_SECONDS_MAX - MARGIN_SECONDS, help="How long to cut.")
    ] = 30.0,
    drain_seconds: Annotated[
        float, typer.Option(min=1, max=86_400, help="How long the backlog may take afterwards.")
    ] = 600.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")] = False,
) -> None:
    """Cut the uplink, wait, restore it, verify, print the receipt; exit 1 if the sum is off."""
    settings = load_settings(config)
    result = uvloop.run(
        run_drill(
            settings,
            load_policy(settings),
            cut_seconds=seconds,
            drain_seconds_max=drain_seconds,
            say=lambda text: typer.echo(text, err=True),
        )
    )
    if as_json:
        typer.echo(json.dumps(result.as_dict()))
    else:
        typer.echo(f"cut for {result.cut_seconds:g} s; {result.left_while_cut} anomalies left meanwhile")
        typer.echo(f"drained {result.seconds_to_drain:.1f} s after the line was back")
        typer.echo(f"damaged records in the store: {result.damaged}")
        for name, count in result.found_since_cut.as_dict().items():
            typer.echo(f"{name.replace('_', ' '):<18} {count:>12,}")
    if not result.passed:
        typer.echo("farshore: the drill has failed", err=True)
        raise typer.Exit(1)
