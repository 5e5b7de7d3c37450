"""The manifest of a model package: what `model.onnx` is fed, and how its answer is read.

The JSON Schema `manifest.schema.json` is the authority on the form; `parse_manifest` adds what a schema
cannot say (counts that must agree, levels in order). Nothing here opens a file or knows ONNX Runtime.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from .severity import Severity

__all__ = [
    "EventMapping",
    "InputSpec",
    "Manifest",
    "ManifestError",
    "ScoreRule",
    "SeverityLevel",
    "load_schema",
    "parse_manifest",
]

BATCH_AXIS: Final = "batch"


class ManifestError(ValueError):
    """The manifest is not one. The message says where, what is wrong and what would be right."""


@dataclass(frozen=True, slots=True)
class EventMapping:
    """Where key, time and features stand in the producers' own JSON, as JSON Pointers (RFC 6901).

    `device` is None when the record's Kafka key names the device. `features` is one pointer to an object
    by feature name or an array in feature order, or one pointer for each feature, in feature order.
    """

    device: str | None = "/device"
    time: str = "/time"
    time_unit: str = "ms"
    features: str | tuple[str, ...] = "/readings"


@dataclass(frozen=True, slots=True)
class InputSpec:
    """The model's input. `shape` is without the batch axis; its product is window times features.

    A window lies reading by reading, the oldest first, or with `by_feature` feature by feature, each one's
    values from the oldest on. Scaling is `(value - mean) / std` by feature, in float64 before the cast to
    `dtype`; a whole dtype takes the nearest whole number. None is no scaling.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    by_feature: bool = False


@dataclass(frozen=True, slots=True)
class ScoreRule:
    """How one number a row is made of an output: `column`, `max`, `one-minus-max`, `reconstruction-error`."""

    output: str
    rule: str
    column: int = 0


@dataclass(frozen=True, slots=True)
class SeverityLevel:
    """Anomalies with a score of at least `score_min` are `level`, unless a higher level fits too."""

    level: Severity
    score_min: float


@dataclass(frozen=True, slots=True)
class Manifest:
    """One model package. `threshold`: an event is an anomaly when its score is greater and no rest holds."""

    name: str
    version: str
    model_sha256: str
    features: tuple[str, ...]
    event: EventMapping
    window: int
    window_horizon: int
    input: InputSpec
    score: ScoreRule
    contributions_output: str | None
    threshold: float
    severity: tuple[SeverityLevel, ...]
    median_of: int
    rest_seconds: float
    provenance: Mapping[str, object]

    @property
    def label(self) -> str:
        """name@version, as scored records and anomalies carry it."""
        return f"{self.name}@{self.version}"

    @property
    def lookback_offsets(self) -> int:
        """How far back in the input each thing kept of a device looks; 0 when nothing is kept.

        Window, median and rest build on one another, so a rewind by `window_horizon` makes all of them whole
        again only if they share it.
        """
        kept = (self.window > 1) + (self.median_of > 1) + (self.rest_seconds > 0)
        return self.window_horizon // kept if kept else 0

    @property
    def rewind_offsets(self) -> int:
        """How far before the commit reading begins, so that everything kept is whole again at the commit."""
        return self.window_horizon if self.lookback_offsets else 0


@cache
def load_schema(name: str) -> dict[str, Any]:
    """The JSON Schema `name` (such as "scored") as it is shipped. Its values are JSON, hence Any."""
    text = resources.files(__package__).joinpath(f"{name}.schema.json").read_text("utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def parse_manifest(document: object) -> Manifest:
    """A manifest from decoded JSON, or ManifestError naming the place and what would be right."""
    error = best_match(Draft202012Validator(load_schema("manifest")).iter_errors(document))
    if error is not None:
        raise ManifestError(f"manifest.json at {error.json_path}: {_short(error.message)}")
    assert isinstance(document, dict)
    features = tuple(document["features"])
    _refuse_what_patterns_miss(document, features)
    window = int(document.get("window", 1))
    tensor = _input(document["input"], len(features), window)
    threshold = _finite(document["threshold"], "$.threshold")
    follow = document.get("after", {})
    contributions = document.get("contributions")
    manifest = Manifest(
        name=document["name"],
        version=document["version"],
        model_sha256=document["model_sha256"],
        features=features,
        event=_mapping(document.get("event", {}), features),
        window=window,
        window_horizon=int(document.get("window_horizon", 0)),
        input=tensor,
        score=ScoreRule(
            document["score"]["output"], document["score"]["rule"], int(document["score"].get("column", 0))
        ),
        contributions_output=contributions["output"] if contributions else None,
        threshold=threshold,
        severity=_severity(document.get("severity", []), threshold),
        median_of=int(follow.get("median_of", 1)),
        rest_seconds=_finite(follow.get("rest_seconds", 0), "$.after.rest_seconds"),
        provenance=document.get("provenance", {}),
    )
    _check_horizon(manifest)
    return manifest


def _short(message: str) -> str:
    # jsonschema quotes the whole value first, maybe thousands of feature names, and says why at the end.
    return message if len(message) <= 300 else f"{message[:140]} … {message[-140:]}"


def _refuse_what_patterns_miss(document: Mapping[str, Any], features: tuple[str, ...]) -> None:
    for key in ("name", "version", "model_sha256"):
        # Python's $ also matches before a last line break, JSON Schema's does not.
        if document[key].endswith("\n"):
            raise ManifestError(f"manifest.json at $.{key}: {document[key]!r} ends with a line break")
    texts = {f"$.features[{index}]": feature for index, feature in enumerate(features)}
    for name, where in document.get("event", {}).items():
        named = where if isinstance(where, dict) else {"": where}
        texts |= {f"$.event.{name}{key and '.' + ascii(key)}": text for key, text in named.items()}
    for place, text in texts.items():
        try:
            text.encode()
        except UnicodeEncodeError:
            # JSON can spell half a surrogate pair; no event has such a name, and no record could be written.
            raise ManifestError(f"manifest.json at {place}: {text!r} is no Unicode text") from None


def _finite(value: float, place: str) -> float:
    # JSON readers take 1e999 for infinity; a threshold that no score passes would silence the site.
    try:
        number = float(value)
    except OverflowError:
        raise ManifestError(f"manifest.json at {place}: the number is too large") from None
    if not math.isfinite(number):
        raise ManifestError(f"manifest.json at {place}: {value} is not a finite number")
    return number


def _check_horizon(manifest: Manifest) -> None:
    needed = max(manifest.window, manifest.median_of)
    kept = [
        text
        for text, is_kept in (
            (f"a window of {manifest.window}", manifest.window > 1),
            (f"a median of {manifest.median_of}", manifest.median_of > 1),
            (f"a rest of {manifest.rest_seconds:g} s", manifest.rest_seconds > 0),
        )
        if is_kept
    ]
    if kept and manifest.lookback_offsets < needed:
        raise ManifestError(
            f"manifest.json at $.window_horizon: {manifest.window_horizon} is too short for "
            f"{' and '.join(kept)}; at least {needed * len(kept)} offsets, and as many times more as devices "
            "share a partition"
        )


def _input(section: Mapping[str, Any], feature_count: int, window: int) -> InputSpec:
    axes = section["shape"]
    if axes[0] != BATCH_AXIS or BATCH_AXIS in axes[1:]:
        raise ManifestError(
            f'manifest.json at $.input.shape: {axes} must start with "{BATCH_AXIS}" and name it once'
        )
    shape = tuple(int(axis) for axis in axes[1:])
    if math.prod(shape) != feature_count * window:
        readings = f" in each of $.window's {window} readings" if window > 1 else ""
        raise ManifestError(
            f"manifest.json at $.input.shape: {axes} holds {math.prod(shape)} values a row, "
            f"but $.features names {feature_count}{readings}"
        )
    scaling = section.get("scaling")
    mean = std = None
    if scaling is not None:
        mean, std = (_per_feature(scaling[name], name, feature_count) for name in ("mean", "std"))
        if min(std) <= 0:
            raise ManifestError(
                f"manifest.json at $.input.scaling.std: {min(std):g} is no spread; use 1 for a constant"
            )
    by_feature = section.get("window_layout") == "by-feature"
    return InputSpec(section["name"], section["dtype"], shape, mean, std, by_feature)


def _per_feature(value: float | list[float], name: str, feature_count: int) -> tuple[float, ...]:
    place = f"$.input.scaling.{name}"
    values = [value] * feature_count if isinstance(value, int | float) else value
    if len(values) != feature_count:
        raise ManifestError(
            f"manifest.json at {place}: {len(values)} values for {feature_count} features; "
            "give one number, or one for each feature"
        )
    return tuple(_finite(number, place) for number in values)


def _mapping(section: Mapping[str, Any], features: tuple[str, ...]) -> EventMapping:
    place = "$.event.features"
    where = section.get("features", "/readings")
    if isinstance(where, dict):
        if set(where) != set(features):
            missing, unknown = set(features) - set(where), set(where) - set(features)
            raise ManifestError(
                f"manifest.json at {place}: must name exactly $.features; "
                f"missing {sorted(missing)}, unknown {sorted(unknown)}"
            )
        where = tuple(where[name] for name in features)
    device = section.get("device", "/device")
    return EventMapping(
        device=None if device == {"from": "record-key"} else device,
        time=section.get("time", "/time"),
        time_unit=section.get("time_unit", "ms"),
        features=where,
    )


def _severity(levels: list[Mapping[str, Any]], threshold: float) -> tuple[SeverityLevel, ...]:
    if not levels:
        return (SeverityLevel(Severity.MEDIUM, threshold),)
    parsed = tuple(
        SeverityLevel(Severity(level["level"]), _finite(level["score_min"], "$.severity")) for level in levels
    )
    ranks = [level.level.rank for level in parsed]
    bounds = [level.score_min for level in parsed]
    if ranks != sorted(set(ranks)) or bounds != sorted(set(bounds)):
        raise ManifestError("manifest.json at $.severity: levels must rise, each once, with rising score_min")
    if bounds[0] > threshold:
        raise ManifestError(
            f"manifest.json at $.severity[0].score_min: {bounds[0]} is above the threshold {threshold}, "
            "so anomalies between them would have no level"
        )
    return parsed
