"""`farshore replay FILE`: publish a CSV or Parquet file as events."""

import asyncio
from datetime import tzinfo
from pathlib import Path
from time import monotonic
from typing import Annotated, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer
import uvloop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ...streams.tabular import RowError, TableError, choose_columns, event_of
from ..errors import FarshoreError
from ..publisher import Publisher
from ..settings import Settings, load_settings
from ..tables import open_table
from .options import ConfigOption

__all__ = ["replay"]

_CHUNK_ROWS: Final = 1_000


def replay(
    file: Annotated[Path, typer.Argument(help="A CSV file with a header, or a Parquet file.")],
    config: ConfigOption = None,
    rate: Annotated[
        float | None, typer.Option(min=0.01, help="Events a second; default as fast as it goes.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="The column that names the device.")] = None,
    device_name: Annotated[
        str | None, typer.Option(help="The device of every row, without --device; default the file's name.")
    ] = None,
    time: Annotated[str | None, typer.Option(help="The column with the time; default by its name.")] = None,
    timezone: Annotated[str, typer.Option(help="The zone of times without an offset.")] = "UTC",
    delimiter: Annotated[str | None, typer.Option(help="Of a CSV file; default by its header.")] = None,
) -> None:
    """Publish a file as events, with a progress bar."""
    if delimiter is not None and len(delimiter) != 1:
        raise typer.BadParameter("give one character", param_hint="--delimiter")
    try:
        zone = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError):
        raise typer.BadParameter(
            f"{timezone!r} is no time zone; for instance Europe/Berlin", param_hint="--timezone"
        ) from None
    settings = load_settings(config)
    try:
        count, seconds = uvloop.run(
            _publish(settings, file, rate, device, device_name or file.stem, time, zone, delimiter)
        )
    except TableError as error:
        raise FarshoreError(str(error)) from None
    typer.echo(f"{count} events acknowledged in {seconds:.1f} s ({count / max(seconds, 1e-9):,.0f} a second)")


async def _publish(
    settings: Settings,
    file: Path,
    rate: float | None,
    device: str | None,
    device_name: str,
    time: str | None,
    zone: tzinfo,
    delimiter: str | None,
) -> tuple[int, float]:
    started = monotonic()
    with open_table(file, delimiter) as (header, rows), _progress() as progress:
        columns = choose_columns(header, device=device, device_name=device_name, time=time)
        bar = progress.add_task(file.name, total=None)
        async with Publisher(settings.kafka_bootstrap, settings.topic_events) as publisher:
            count = 0
            try:
                for count, row in enumerate(rows, 1):
                    key, value = event_of(row, columns, zone)
                    await publisher.publish(key, value)
                    if rate is not None:
                        await _pace(publisher, started, count, rate)
                    if count % _CHUNK_ROWS == 0:
                        progress.update(bar, completed=count)
                        await asyncio.sleep(0)
            except TableError as error:
                # So that whoever mends the file knows from where on to replay it.
                await publisher.flush()
                place = f"{file.name}, row {count}" if isinstance(error, RowError) else f"after row {count}"
                raise TableError(
                    f"{place}: {error}; {publisher.acknowledged} events before it are acknowledged"
                ) from None
            await publisher.flush()
            progress.update(bar, completed=count, total=count)
    return publisher.acknowledged, monotonic() - started


async def _pace(publisher: Publisher, started: float, count: int, rate: float) -> None:
    ahead = count / rate - (monotonic() - started)
    if ahead > 0:
        await publisher.flush()
        await asyncio.sleep(ahead)


def _progress() -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
