"""`farshore check`: settings, broker, topics, model and uplink examined before a start; changes nothing."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

import typer
import uvloop
from aiokafka.errors import KafkaError

from ...streams.packages.loader import ModelPackage, PackageError, load_package
from ..admin import connect_admin, examine_topics, site_topics
from ..errors import FarshoreError, first_line
from ..policy_file import load_policy
from ..scorer import largest_anomaly
from ..settings import Settings, load_settings
from ..uplink import EventHubUplink, UplinkBusyError, UplinkLimits, UplinkLostError, UplinkTooLargeError
from .options import ConfigOption

__all__ = ["check"]

_WIDTH: Final = 9


@dataclass(frozen=True, slots=True)
class _Finding:
    subject: str
    good: bool
    text: str
    warning: bool = False


def check(config: ConfigOption = None) -> None:
    """Examine everything a start needs; exit 1 if anything stands in the way."""
    settings = load_settings(config)
    findings = uvloop.run(_examine(settings))
    if not all(findings):
        raise typer.Exit(1)


async def _examine(settings: Settings) -> list[bool]:
    good: list[bool] = []
    async for finding in _findings(settings):
        mark = "FAILED" if not finding.good else "warning" if finding.warning else "ok"
        typer.echo(f"{finding.subject:<{_WIDTH}} {mark:<7} {finding.text}", err=not finding.good)
        good.append(finding.good)
    return good


async def _findings(settings: Settings) -> AsyncIterator[_Finding]:
    yield _Finding("settings", True, f"site {settings.site}")
    finding, package = await asyncio.to_thread(_model, settings)
    yield finding
    yield _policy(settings)
    async for finding in _kafka(settings, 0 if package is None else largest_anomaly(settings, package)):
        yield finding
    yield await _uplink(settings)


def _model(settings: Settings) -> tuple[_Finding, ModelPackage | None]:
    if settings.model is None:
        text = "FARSHORE_MODEL is not set; give the folder of a model package"
        return _Finding("model", False, text), None
    try:
        package = load_package(settings.model, intra_op_threads=settings.onnx_threads)
    except PackageError as error:
        return _Finding("model", False, str(error)), None
    text = f"{package.manifest.label}, {len(package.manifest.features)} features"
    return _Finding("model", True, text), package


def _policy(settings: Settings) -> _Finding:
    try:
        policy = load_policy(settings)
    except FarshoreError as error:
        return _Finding("policy", False, str(error))
    return _Finding("policy", True, f"{', '.join(policy.leaves)} may leave; {policy.digest}")


async def _kafka(settings: Settings, anomaly_bytes_max: int) -> AsyncIterator[_Finding]:
    try:
        async with connect_admin(settings.kafka_bootstrap) as admin:
            yield _Finding("broker", True, settings.kafka_bootstrap)
            specs = site_topics(settings)
            report = await examine_topics(admin, specs, anomaly_bytes_max=anomaly_bytes_max)
    except FarshoreError as error:
        yield _Finding("broker", False, str(error))
        return
    except KafkaError as error:
        yield _Finding("topics", False, first_line(error))
        return
    for warning in report.warnings:
        yield _Finding("topics", True, warning, warning=True)
    for problem in report.problems:
        yield _Finding("topics", False, problem)
    if not report.problems:
        todo = [f"{spec.name} will be created" for spec in report.missing]
        todo += [f"{name} will be extended to {count} partitions" for name, count in report.to_extend]
        yield _Finding("topics", True, "; ".join(todo) or "all there")


async def _uplink(settings: Settings) -> _Finding:
    if settings.eventhub_connection_string is None:
        return _Finding(
            "uplink", False, "FARSHORE_EVENTHUB_CONNECTION_STRING is not set; the bridge needs it"
        )
    try:
        uplink = EventHubUplink(
            settings.eventhub_connection_string.get_secret_value(),
            settings.eventhub_name,
            UplinkLimits(settings.uplink_connect_seconds_max, settings.uplink_send_seconds_max),
        )
        await uplink.connect()
        await uplink.discard()
    except FarshoreError as error:
        return _Finding("uplink", False, str(error))
    except (UplinkLostError, UplinkBusyError, UplinkTooLargeError) as error:
        # A start does not need the line; that it is down is still worth knowing.
        return _Finding("uplink", False, f"no answer now ({error}); the bridge would wait for it")
    return _Finding("uplink", True, "answers")
