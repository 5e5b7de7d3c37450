"""`farshore store …`: look into the durable store, prove it, send parts of it again.

Guarantee: needs Kafka alone; all of it works while the uplink is away. What is found is printed as it is
read.
"""

import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer
import uvloop

from ...schemas.records import Outcome
from ...schemas.severity import Severity
from ...streams.delivery.policy import DamagedAnomalyError
from ..errors import FarshoreError
from ..policy_file import load_policy
from ..resend import new_request, resend
from ..settings import Settings, load_settings
from ..store import WAITING, Stored, open_store
from ..store_receipt import StoreReceipt, count_store
from ..store_selection import StoreSelection, decoded, parse_time
from ..store_verify import verify_store
from ..topic_reader import open_reader
from .options import ConfigOption

__all__ = ["store_app"]

store_app: Final = typer.Typer(
    help="The durable store: list, show, verify, resend, receipt.", no_args_is_help=True
)

STATES: Final = (WAITING, *(outcome.value for outcome in Outcome))

SinceOption = Annotated[
    str | None, typer.Option("--from", help="Found at or after this time: ISO 8601, or epoch milliseconds.")
]
UntilOption = Annotated[str | None, typer.Option("--to", help="Found before this time.")]
DeviceOption = Annotated[list[str] | None, typer.Option("--device", help="Of this device; may be repeated.")]
SeverityOption = Annotated[
    list[Severity] | None, typer.Option("--severity", help="Of this severity; may be repeated.")
]
StateOption = Annotated[
    list[str] | None, typer.Option("--state", help=f"One of {', '.join(STATES)}; may be repeated.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON in place of a table.")]


def _selection(
    since: str | None,
    until: str | None,
    devices: list[str] | None,
    severities: list[Severity] | None,
    states: list[str] | None,
    ids: list[str] | None = None,
) -> StoreSelection:
    for state in states or ():
        if state not in STATES:
            raise typer.BadParameter(f"{state!r} is none of {', '.join(STATES)}", param_hint="--state")
    return StoreSelection(
        _time(since, "--from"),
        _time(until, "--to"),
        frozenset(devices or ()),
        frozenset(level.value for level in severities or ()),
        frozenset(states or ()),
        frozenset(ids or ()),
    )


def _time(text: str | None, option: str) -> int | None:
    if text is None:
        return None
    try:
        return parse_time(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


@store_app.command("list")
def list_(
    config: ConfigOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    device: DeviceOption = None,
    severity: SeverityOption = None,
    state: StateOption = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Show no more than this many.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List anomalies with what became of them; JSON is one object a line."""
    selection = _selection(since, until, device, severity, state)
    uvloop.run(_list(load_settings(config), selection, limit, as_json))


async def _list(settings: Settings, selection: StoreSelection, limit: int | None, as_json: bool) -> None:
    shown = 0
    if not as_json:
        typer.echo(_row("id", "found", "severity", "state", "score", "device"))
    async with open_store(settings) as store:
        for source in (store.anomalies(selection.takes), store.dropped(selection.takes_dropped)):
            async for stored in _in_state(source, selection):
                if limit is not None and shown >= limit:
                    return
                shown += 1
                typer.echo(json.dumps(_described(stored)) if as_json else _line(stored))


async def _in_state(found: AsyncIterator[Stored], selection: StoreSelection) -> AsyncIterator[Stored]:
    async for stored in found:
        if not selection.states or stored.state in selection.states:
            yield stored


def _described(stored: Stored) -> dict[str, Any]:  # JSON
    return {
        "id": stored.key.decode(errors="replace"),
        "state": stored.state,
        "partition": stored.partition,
        "offset": None if stored.record is None else stored.record.offset,
        "anomaly": None if stored.record is None else decoded(stored.record.value),
        "delivery": decoded(stored.delivery),
    }


def _row(identity: str, found: str, severity: str, state: str, score: str, device: str) -> str:
    return f"{identity:<32}  {found:<23}  {severity:<8}  {state:<16}  {score:>12}  {device}"


def _line(stored: Stored) -> str:
    anomaly = (None if stored.record is None else decoded(stored.record.value)) or {}
    delivery = decoded(stored.delivery) or {}
    score = anomaly.get("score")
    return _row(
        stored.key.decode(errors="replace"),
        _moment(anomaly.get("detected_at", delivery.get("time"))),
        str(anomaly.get("severity", "")),
        stored.state,
        f"{score:.6g}" if isinstance(score, (int, float)) else "",
        _printable(anomaly.get("device", "")),
    )


def _moment(time_ms: object) -> str:
    if not isinstance(time_ms, int):
        return ""
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def _printable(name: object) -> str:
    # A device names itself: control characters in it are not to steer the terminal.
    return "".join(letter if letter.isprintable() else "�" for letter in str(name))


@store_app.command()
def show(
    identity: Annotated[str, typer.Argument(metavar="ID", help="The anomaly's id.")],
    config: ConfigOption = None,
    departure: Annotated[
        bool, typer.Option("--departure", help="What of it would leave the site, and why; sends nothing.")
    ] = False,
    policy: Annotated[
        Path | None, typer.Option(help="With --departure: this policy in place of the one in force.")
    ] = None,
) -> None:
    """Show one anomaly with what became of it, or what of it would leave."""
    settings = load_settings(config)
    judge = load_policy(settings, policy)
    stored = uvloop.run(_find(settings, identity))
    if stored is None:
        raise FarshoreError(f"the store has no anomaly {identity!r}")
    if not departure:
        typer.echo(json.dumps(_described(stored), indent=2, ensure_ascii=False))
        return
    if stored.record is None:
        raise FarshoreError(f"a quota took {identity!r}; nothing of it can leave")
    try:
        reason, fields = judge.explain(stored.record.value)
    except DamagedAnomalyError as error:
        raise FarshoreError(f"it would be set aside: {error}") from None
    typer.echo(f"policy    {judge.digest}")
    typer.echo(f"it leaves {'yes' if reason is None else f'no: {reason}'}")
    for field in fields:
        seen = "stays" if field.leaves is None else json.dumps(field.leaves, ensure_ascii=False)
        typer.echo(f"  {field.name:<14} {field.rule:<28} {seen if reason is None else 'stays'}")


async def _find(settings: Settings, identity: str) -> Stored | None:
    async with open_store(settings) as store:
        return await store.find(identity)


@store_app.command()
def verify(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check every record: schema, id, digest, delivered or not; exit 1 on damage."""
    settings = load_settings(config)
    found = uvloop.run(verify_store(settings, load_policy(settings)))
    for damage in found.damages:
        place = "" if damage.offset is None else f" at offset {damage.offset}"
        typer.echo(f"partition {damage.partition}{place}, {damage.id}: {_printable(damage.what)}", err=True)
    if as_json:
        typer.echo(json.dumps(asdict(found)))
    else:
        states = ", ".join(f"{count} {state}" for state, count in sorted(found.states.items()))
        typer.echo(
            f"{found.checked} checked ({states or 'the store is empty'}); {found.ids_recomputed} ids "
            f"recomputed from their events; {found.bodies_recomputed} compared with what left; "
            f"{found.damaged} damaged"
        )
    if found.damaged:
        raise typer.Exit(1)


@store_app.command("resend")
def resend_(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="These anomalies.")] = None,
    config: ConfigOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    device: DeviceOption = None,
    severity: SeverityOption = None,
    state: StateOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Send anomalies again, marked as resent; what waits is left out. A range or ids must be given."""
    selection = _selection(since, until, device, severity, state, ids)
    if selection.is_everything and not selection.states:
        raise typer.BadParameter("give ids, or a range by --from, --to, --device, --severity or --state")
    request = None if dry_run else new_request()
    count = uvloop.run(resend(load_settings(config), selection, request))
    if as_json:
        typer.echo(json.dumps({"request": request, "count": count}))
    elif request is None:
        typer.echo(f"{count} would be sent again")
    else:
        typer.echo(f"{count} will be sent again, marked {request}; the bridge sends them when the line is up")


@store_app.command()
def receipt(
    config: ConfigOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    as_json: JsonOption = False,
) -> None:
    """Count what became of the anomalies, for any stretch of time; exit 1 if the sum is off."""
    selection = _selection(since, until, None, None, None)
    counted = uvloop.run(count_store(load_settings(config), selection))
    if as_json:
        typer.echo(json.dumps(counted.as_dict()))
    else:
        for name, count in counted.as_dict().items():
            typer.echo(f"{name.replace('_', ' '):<18} {count:>12,}")
    if not counted.adds_up:
        typer.echo(f"farshore: the sum is off by {_off_by(counted)}", err=True)
        raise typer.Exit(1)


def _off_by(counted: StoreReceipt) -> int:
    return counted.anomalies - counted.with_outcome


@store_app.command()
def audit(
    config: ConfigOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    kind: Annotated[str | None, typer.Option(help="Of this kind alone, such as departed.")] = None,
) -> None:
    """List the site's audit records: what left by batch, gaps, what a quota took. One JSON object a line."""
    span = StoreSelection(_time(since, "--from"), _time(until, "--to"))
    uvloop.run(_audit(load_settings(config), span, kind))


async def _audit(settings: Settings, span: StoreSelection, kind: str | None) -> None:
    async with open_reader(settings.kafka_bootstrap) as reader:
        async for records in reader.records(settings.topics.audit):
            for record in records:
                told = decoded(record.value)
                if told is None or (kind is not None and told.get("kind") != kind):
                    continue
                if span.in_time(told.get("time", record.timestamp)):
                    typer.echo(json.dumps(told))
