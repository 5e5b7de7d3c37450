"""`farshore status`: lag, uplink and store on one screen.

Lag and store are read from Kafka; the uplink's state and what follows from growth come from the bridge's
metrics, and are unknown where it does not answer.
"""

import json
import math
import time
import urllib.request
from collections.abc import Mapping
from typing import Annotated, Any, Final

import typer
import uvloop
from prometheus_client.parser import text_string_to_metric_families

from ...streams.delivery.breaker import UplinkState
from ..admin import connect_admin
from ..departures import AUDIT_PARTITION
from ..errors import BrokerAbsentError
from ..lag_commits import partitions_by_topic
from ..lag_reader import LagReader, LagUnreadableError, PartitionLag, WatchedGroups
from ..log_bytes import bytes_on_disk
from ..settings import Settings, load_settings
from ..store_selection import decoded
from ..topic_reader import open_reader
from .options import ConfigOption

__all__ = ["status"]

_SCRAPE_SECONDS_MAX: Final = 2.0
_SCRAPE_BYTES_MAX: Final = 16 * 1024 * 1024
_AUDIT_RECORDS_MAX: Final = 1_000


def status(
    config: ConfigOption = None,
    metrics: Annotated[
        str | None, typer.Option(help="The bridge's metrics; default this machine at FARSHORE_METRICS_PORT.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show lag in records, seconds and bytes, the uplink's state, time to full and time to drain."""
    settings = load_settings(config)
    url = metrics or f"http://127.0.0.1:{settings.metrics_port}/metrics"
    if not url.startswith(("http://", "https://")):
        raise typer.BadParameter(f"{url!r} is no URL; give http://host:port/metrics", param_hint="--metrics")
    found = uvloop.run(_look(settings)) | _of_the_bridge(url)
    if as_json:
        typer.echo(json.dumps(found))
        return
    for line in _lines(found):
        typer.echo(line)


async def _look(settings: Settings) -> dict[str, Any]:  # JSON
    """What Kafka tells."""
    reader = LagReader(settings.kafka_bootstrap, WatchedGroups.of(settings))
    try:
        lags = await reader.read()
    except LagUnreadableError as error:
        raise BrokerAbsentError(f"the lag cannot be read: {error}") from None
    finally:
        await reader.close()
    names = settings.topics
    async with connect_admin(settings.kafka_bootstrap) as admin:
        parts = await partitions_by_topic(admin, {names.anomalies, names.deliveries})
        sizes = await bytes_on_disk(
            admin, {topic: [part.partition for part in found] for topic, found in parts.items()}
        )
    return {
        "site": settings.site,
        "lag": _by_group(lags),
        "store_bytes": sum(sizes.values()),
        "store_quota_bytes": settings.store_quota_bytes,
        "last_batch_left": await _last_batch(settings),
    }


def _by_group(lags: tuple[PartitionLag, ...]) -> list[dict[str, Any]]:
    groups: dict[tuple[str, str], list[PartitionLag]] = {}
    for entry in lags:
        groups.setdefault((entry.group, entry.topic), []).append(entry)
    return [
        {
            "group": group,
            "topic": topic,
            "records": sum(entry.lag.records for entry in entries),
            "seconds": max(entry.lag.seconds for entry in entries),
            "bytes": round(sum(entry.lag.bytes for entry in entries)),
        }
        for (group, topic), entries in groups.items()
    ]


async def _last_batch(settings: Settings) -> int | None:
    """When the last batch left, in epoch milliseconds, as far as the end of `audit` tells."""
    last = None
    async with open_reader(settings.kafka_bootstrap) as reader:
        start, end = (await reader.bounds(settings.topics.audit))[AUDIT_PARTITION]
        span = {AUDIT_PARTITION: (max(start, end - _AUDIT_RECORDS_MAX), end)}
        async for records in reader.records_between(settings.topics.audit, span):
            for record in records:
                told = decoded(record.value)
                if told is not None and told.get("kind") == "departed":
                    last = int(told["time"])
    return last


def _of_the_bridge(url: str) -> dict[str, Any]:
    """What only the bridge knows; None where it does not answer."""
    values = _scrape(url)
    state = values.get("farshore_uplink_state")
    return {
        "uplink": None if state is None else list(UplinkState)[int(state)].value,
        "seconds_to_full": _finite(values.get("farshore_store_time_to_full_seconds")),
        "seconds_to_drain": _finite(values.get("farshore_store_time_to_drain_seconds")),
        "metrics": url if state is not None else None,
    }


def _scrape(url: str) -> Mapping[str, float]:
    try:
        with urllib.request.urlopen(url, timeout=_SCRAPE_SECONDS_MAX) as answer:  # noqa: S310  http(s) only, checked above
            text = answer.read(_SCRAPE_BYTES_MAX).decode("utf-8", "replace")
        families = list(text_string_to_metric_families(text))
    except (OSError, ValueError):
        return {}
    return {sample.name: sample.value for family in families for sample in family.samples}


def _finite(value: float | None) -> float | str | None:
    # JSON has no infinity.
    return "+Inf" if value is not None and math.isinf(value) else value


def _lines(found: Mapping[str, Any]) -> list[str]:
    lines = [f"site      {found['site']}", "lag         records     seconds         bytes  group on topic"]
    lines += [
        f"     {entry['records']:>14,} {entry['seconds']:>11,.1f} {entry['bytes']:>13,}  "
        f"{entry['group']} on {entry['topic']}"
        for entry in found["lag"]
    ]
    quota = found["store_quota_bytes"]
    of_quota = "no quota" if quota is None else f"of {quota:,}"
    last = found["last_batch_left"]
    ago = "no batch has left" if last is None else f"last batch left {time.time() - last / 1000:,.0f} s ago"
    known = found["metrics"] is not None
    lines += [
        f"uplink    {found['uplink'] if known else 'unknown: the bridge does not answer'}; {ago}",
        f"store     {found['store_bytes']:,} bytes, {of_quota}",
        f"full in   {_duration(found['seconds_to_full'])}",
        f"drained   {_duration(found['seconds_to_drain'])}",
    ]
    return lines


def _duration(seconds: float | str | None) -> str:
    if seconds is None:
        return "unknown"
    if isinstance(seconds, str):
        return "never at this pace"
    days, rest = divmod(int(seconds), 86_400)
    return f"{days} d {rest // 3600:02}:{rest % 3600 // 60:02}:{rest % 60:02}"
