"""`farshore check`: settings, broker, topics, model and uplink examined before a start; changes nothing."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

import typer
import uvloop

from ...streams.packages.loader import PackageError, load_package
from ..admin import connect_admin, examine_topics, site_topics
from ..errors import FarshoreError
from ..hub_access import hub_access
from ..settings import Settings, load_settings
from ..uplink import EventHubUplink, UplinkLimits
from ..uplink_errors import UplinkBusyError, UplinkLostError, UplinkTooLargeError
from .options import ConfigOption

__all__ = ["check"]

_WIDTH: Final = 9


@dataclass(frozen=True, slots=True)
class _Finding:
    subject: str
    good: bool
    text: str


def check(config: ConfigOption = None) -> None:
    """Examine everything a start needs; exit 1 if anything stands in the way."""
    settings = load_settings(config)
    findings = uvloop.run(_examine(settings))
    if not all(findings):
        raise typer.Exit(1)


async def _examine(settings: Settings) -> list[bool]:
    good: list[bool] = []
    async for finding in _findings(settings):
        mark = "ok" if finding.good else "FAILED"
        typer.echo(f"{finding.subject:<{_WIDTH}} {mark:<7} {finding.text}", err=not finding.good)
        good.append(finding.good)
    return good


async def _findings(settings: Settings) -> AsyncIterator[_Finding]:
    yield _Finding("settings", True, f"site {settings.site}")
    yield await asyncio.to_thread(_model, settings)
    async for finding in _kafka(settings):
        yield finding
    yield await _uplink(settings)


def _model(settings: Settings) -> _Finding:
    if settings.model is None:
        return _Finding("model", False, "FARSHORE_MODEL is not set; give the folder of a model package")
    try:
        package = load_package(settings.model, intra_op_threads=settings.onnx_threads)
    except PackageError as error:
        return _Finding("model", False, str(error))
    return _Finding("model", True, f"{package.manifest.label}, {len(package.manifest.features)} features")


async def _kafka(settings: Settings) -> AsyncIterator[_Finding]:
    try:
        async with connect_admin(settings.kafka_bootstrap) as admin:
            yield _Finding("broker", True, settings.kafka_bootstrap)
            report = await examine_topics(admin, site_topics(settings))
    except FarshoreError as error:
        yield _Finding("broker", False, str(error))
        return
    for problem in report.problems:
        yield _Finding("topics", False, problem)
    if not report.problems:
        todo = [f"{spec.name} will be created" for spec in report.missing]
        todo += [f"{name} will be extended to {count} partitions" for name, count in report.to_extend]
        yield _Finding("topics", True, "; ".join(todo) or "all there")


async def _uplink(settings: Settings) -> _Finding:
    try:
        uplink = EventHubUplink(
            hub_access(settings),
            UplinkLimits(settings.uplink_connect_seconds_max, settings.uplink_send_seconds_max),
        )
        try:
            await uplink.connect(0)
        finally:
            await uplink.close()
    except FarshoreError as error:
        return _Finding("uplink", False, str(error))
    except (UplinkLostError, UplinkBusyError, UplinkTooLargeError) as error:
        # A start does not need the line; that it is down is still worth knowing.
        return _Finding("uplink", False, f"no answer now ({error}); the bridge would wait for it")
    return _Finding("uplink", True, "answers")
