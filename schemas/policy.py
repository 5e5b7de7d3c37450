"""The compliance policy as data: read from its file's document, checked, with a digest that names it.

Guarantees: a rule never stands for a field it does not fit (only numbers are rounded, only single values are
hashed); two files that say the same have the same digest, whatever their order and spelling.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match

from .manifest import load_schema
from .records import Departure

__all__ = [
    "DEFAULT_POLICY",
    "Action",
    "FieldRule",
    "PolicyDocument",
    "PolicyError",
    "Selection",
    "parse_policy",
]

OBJECTS: Final = frozenset({"readings", "contributions", "source"})
TIMES: Final = frozenset({"time", "detected_at"})
NUMBERS: Final = frozenset({"score", "threshold", "readings", "contributions"})


class PolicyError(ValueError):
    """The policy is refused. The message says where, what is wrong and what would be right."""


class Action(StrEnum):
    """What becomes of a field."""

    LEAVE = "leave"
    HASH = "hash"
    ROUND = "round"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class FieldRule:
    """`step` is what is rounded to, for ROUND alone."""

    action: Action
    step: float | None = None

    def __str__(self) -> str:
        return self.action.value if self.step is None else f"{self.action.value} to {self.step:.12g}"


@dataclass(frozen=True, slots=True)
class Selection:
    """Anomalies by severity or by device; in a device's name `*` stands for any characters."""

    severities: frozenset[str] = frozenset()
    devices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PolicyDocument:
    """`relevant` is None where everything is globally relevant."""

    fields: Mapping[str, FieldRule]
    relevant: Selection | None = None
    never: Selection = field(default_factory=Selection)

    @property
    def needs_secret(self) -> bool:
        """Whether anything is hashed."""
        return any(rule.action is Action.HASH for rule in self.fields.values())

    @property
    def digest(self) -> str:
        """`sha256:` and the SHA-256 of the canonical form: JSON, names sorted, lists as sets."""
        canonical = {
            "fields": {name: str(rule) for name, rule in self.fields.items()},
            "never": _canonical(self.never),
            "relevant": None if self.relevant is None else _canonical(self.relevant),
            "version": 1,
        }
        text = json.dumps(canonical, sort_keys=True, separators=(",", ":"))
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


DEFAULT_POLICY: Final = PolicyDocument(
    {name: FieldRule(Action.LEAVE) for name in Departure.__annotations__ if name != "resent"}
)
"""In force without a file: id, site, time, score, severity and model leave, of every anomaly."""


def parse_policy(document: object) -> PolicyDocument:
    """A policy from its decoded file; raises PolicyError."""
    error = best_match(Draft202012Validator(load_schema("policy")).iter_errors(document))
    if error is not None:
        raise PolicyError(_sentence(error))
    assert isinstance(document, dict)
    fields = {name: _rule(name, told) for name, told in document["fields"].items()}
    relevant = document.get("relevant")
    return PolicyDocument(
        fields,
        None if relevant is None else _selection(relevant),
        _selection(document.get("never", {})),
    )


def _rule(name: str, told: Any) -> FieldRule:  # a value of the document, checked by the schema
    if isinstance(told, str):
        action = Action(told)
        if action is Action.HASH and name in OBJECTS:
            raise PolicyError(
                f'fields.{name}: only a single value is hashed; name its parts, as in "{name}.NAME" = "hash"'
            )
        return FieldRule(action)
    step = float(told["round"])
    whole = name.partition(".")[0]
    if whole not in TIMES and whole not in NUMBERS:
        raise PolicyError(f"fields.{name}: only numbers and times are rounded; give leave, hash or drop")
    if whole in TIMES and not step.is_integer():
        raise PolicyError(f"fields.{name}: a time is rounded to whole milliseconds, not to {step:g}")
    if not math.isfinite(step) or step < 1e-12:
        raise PolicyError(f"fields.{name}: {step:g} is too small a step")
    return FieldRule(Action.ROUND, step)


def _selection(told: Mapping[str, Any]) -> Selection:
    return Selection(frozenset(told.get("severities", ())), tuple(sorted(set(told.get("devices", ())))))


def _canonical(selection: Selection) -> dict[str, list[str]]:
    return {"devices": list(selection.devices), "severities": sorted(selection.severities)}


def _sentence(error: ValidationError) -> str:
    place = ".".join(str(part) for part in error.absolute_path)
    if error.validator == "pattern" and list(error.absolute_path) == ["fields"]:
        return f'fields: {error.instance!r} is no member of an anomaly; quote a part\'s name, "readings.NAME"'
    if place in OBJECTS or place.removeprefix("fields.") in OBJECTS:
        return f'{place}: give leave, drop or {{ round = … }}, and quote a part\'s name: "readings.NAME"'
    if place == "fields.id":
        return 'fields.id: must be "leave": receivers drop repeats by it'
    if place.startswith("fields."):
        return f"{place}: give leave, hash, drop or {{ round = … }}"
    return f"{place or 'the file'}: {error.message}"[:200]
