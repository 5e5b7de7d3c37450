"""`farshore model …`: look into a model package.

Guarantee: what `inspect` shows has passed every check of a start, the trial run included; a package that a
worker would refuse is refused here with the same sentence.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.text import Text

from ...schemas.manifest import EventMapping, Manifest
from ...streams.packages.loader import ModelPackage, PackageError, load_package
from ...streams.scoring.inference import TensorInfo
from ...streams.scoring.memory import history_bytes_max

__all__ = ["describe_package", "model_app"]

model_app: Final = typer.Typer(help="Model packages: what a site runs.", no_args_is_help=True)

_NAMES_SHOWN_MAX: Final = 24
_LABEL_WIDTH: Final = 15


@model_app.callback()
def _group() -> None:
    # With a callback typer keeps the name of a command that is the only one.
    """Model packages: what a site runs."""


@model_app.command()
def inspect(
    folder: Annotated[Path, typer.Argument(help="A folder with model.onnx and manifest.json.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check a package as a start would, and show what it says."""
    try:
        package = load_package(folder)
    except PackageError as error:
        typer.echo(f"farshore: {error}", err=True)
        raise typer.Exit(1) from None
    if as_json:
        typer.echo(json.dumps(describe_package(package), indent=2, ensure_ascii=False))
        return
    console = Console(highlight=False)
    for label, text in _lines(package):
        # Plain text, never markup: feature names are the user's and may hold brackets.
        console.print(Text.assemble((f"{label:<{_LABEL_WIDTH}}", "bold"), text), soft_wrap=True)


def describe_package(package: ModelPackage) -> dict[str, object]:
    """The package as JSON: its manifest by topic, the graph's tensors, and the trial run's result."""
    manifest = package.manifest
    return {
        "name": manifest.name,
        "version": manifest.version,
        "digest": package.digest,
        "features": list(manifest.features),
        "event": _event(manifest),
        "window": manifest.window,
        "window_horizon": manifest.window_horizon,
        "lookback_offsets": manifest.lookback_offsets,
        "memory_bytes_max": history_bytes_max(manifest),
        "input": {
            "name": manifest.input.name,
            "dtype": manifest.input.dtype,
            "shape": ["batch", *manifest.input.shape],
            "scaled": manifest.input.mean is not None,
            "window_layout": "by-feature" if manifest.input.by_feature else "by-reading",
        },
        "score": {
            "output": manifest.score.output,
            "rule": manifest.score.rule,
            "column": manifest.score.column if manifest.score.rule == "column" else None,
        },
        "contributions": manifest.contributions_output,
        "threshold": manifest.threshold,
        "severity": {level.level.value: level.score_min for level in manifest.severity},
        "after": {"median_of": manifest.median_of, "rest_seconds": manifest.rest_seconds},
        "trial": {"bit_equal": package.trial.bit_equal, "rows_scored": package.trial.rows_scored},
        "graph": {
            "inputs": [_tensor(tensor) for tensor in package.model.inputs],
            "outputs": [_tensor(tensor) for tensor in package.model.outputs],
        },
        "provenance": dict(manifest.provenance),
    }


def _event(manifest: Manifest) -> dict[str, object]:
    event = manifest.event
    return {
        "device": _device(event),
        "time": event.time,
        "time_unit": event.time_unit,
        "features": event.features
        if isinstance(event.features, str)
        else dict(zip(manifest.features, event.features, strict=True)),
    }


def _device(event: EventMapping) -> str | dict[str, str]:
    return {"from": "record-key"} if event.device is None else event.device


def _tensor(tensor: TensorInfo) -> dict[str, object]:
    return {"name": tensor.name, "dtype": tensor.dtype, "shape": list(tensor.shape)}


def _lines(package: ModelPackage) -> Iterable[tuple[str, str]]:
    manifest = package.manifest
    yield "model", manifest.label
    yield "digest", package.digest
    yield "features", f"{len(manifest.features)}: {_some(manifest.features)}"
    yield "event", _event_text(manifest)
    scaling = "" if manifest.input.mean is None else ", scaled by the manifest"
    axes = _axes(("batch", *manifest.input.shape))
    yield "input", f"{manifest.input.name} {manifest.input.dtype} {axes}{scaling}"
    column = f" {manifest.score.column}" if manifest.score.rule == "column" else ""
    yield "score", f"{manifest.score.rule}{column} of {manifest.score.output}"
    yield "window", _window_text(manifest)
    if manifest.lookback_offsets:
        yield "horizon", _horizon_text(manifest)
    yield "contributions", manifest.contributions_output or "none"
    yield "threshold", f"{manifest.threshold:g}: an event that scores more is an anomaly"
    yield "severity", ", ".join(f"{level.level} from {level.score_min:g}" for level in manifest.severity)
    yield "median", f"of a device's last {manifest.median_of} scores" if manifest.median_of > 1 else "none"
    rest = f"{manifest.rest_seconds:g} s after an anomaly of a device" if manifest.rest_seconds else "none"
    yield "rest", rest
    yield "trial run", _trial_text(package)
    for tensor in package.model.inputs:
        yield "graph input", f"{tensor.name} {tensor.dtype} {_axes(tensor.shape)}"
    for tensor in package.model.outputs:
        yield "graph output", f"{tensor.name} {tensor.dtype} {_axes(tensor.shape)}"
    if manifest.provenance:
        yield "provenance", _pairs(manifest.provenance)


def _event_text(manifest: Manifest) -> str:
    event = manifest.event
    device = "the record's key" if event.device is None else event.device or "the whole value"
    if isinstance(event.features, str):
        features = event.features or "the whole value"
    else:
        features = _some(event.features)
    return f"device {device}, time {event.time} ({event.time_unit} or RFC 3339), features {features}"


def _window_text(manifest: Manifest) -> str:
    if manifest.window == 1:
        return "none: each event by itself"
    layout = "feature by feature" if manifest.input.by_feature else "reading by reading"
    return f"a device's last {manifest.window} readings, {layout}, from the oldest on"


def _horizon_text(manifest: Manifest) -> str:
    size = f"at most {history_bytes_max(manifest) / 1e6:.3g} MB of readings and scores a partition"
    return (
        f"{manifest.window_horizon} offsets are read again at an assignment; "
        f"each thing kept of a device looks back {manifest.lookback_offsets}; {size}"
    )


def _trial_text(package: ModelPackage) -> str:
    rows = f"{package.trial.rows_scored} rows, none changed by the rows beside it; "
    if package.trial.bit_equal:
        return rows + "scores are bit-equal over batch sizes"
    return rows + "between batch sizes scores differ by rounding"


def _some(names: Iterable[str]) -> str:
    shown = [name if name.isprintable() else ascii(name) for name in names]
    more = len(shown) - _NAMES_SHOWN_MAX
    return ", ".join(shown[:_NAMES_SHOWN_MAX]) + (f" and {more} more" if more > 0 else "")


def _axes(axes: tuple[int | str | None, ...]) -> str:
    return "[" + ", ".join("?" if axis is None else str(axis) for axis in axes) + "]"


def _pairs(section: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {json.dumps(value, ensure_ascii=False)}" for name, value in section.items())
