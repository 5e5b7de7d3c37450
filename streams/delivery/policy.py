"""The compliance policy at work: for one stored anomaly, what leaves the site, or why it is held back.

Guarantees
- An allow-list: a member, or a part of one, that no rule names never leaves, nor does one of another type
  than the anomaly's schema has it. A record of which a named member is damaged leaves not at all.
- What leaves is a new object of checked single values, at most one level deep; nothing is passed on whole.
- A keyed hash is HMAC-SHA256 over the field's name and value: equal values of different fields differ.
Pure: the same record under the same policy and secret gives the same bytes.
"""

import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import partial

from ...schemas.policy import DEFAULT_POLICY, OBJECTS, TIMES, Action, FieldRule, PolicyDocument, Selection
from ..scoring.codec import NotJsonError, decode, encode
from .record_types import CHECKS, DamagedAnomalyError, check_resent

__all__ = ["DamagedAnomalyError", "Departing", "Explained", "HeldBack", "Policy"]


@dataclass(frozen=True, slots=True)
class Departing:
    """What leaves for one anomaly. Whatever travels beside the body comes from `fields` too."""

    fields: dict[str, object]

    @property
    def id(self) -> str:
        """The anomaly's id."""
        return str(self.fields["id"])

    @property
    def resent(self) -> str | None:
        """The request by which it is sent again, if it is."""
        resent = self.fields.get("resent")
        return None if resent is None else str(resent)

    def body(self) -> bytes:
        """The body of the event."""
        return encode(self.fields)


@dataclass(frozen=True, slots=True)
class HeldBack:
    """The anomaly stays on the site; `reason` is kept with its outcome."""

    reason: str


@dataclass(frozen=True, slots=True)
class Explained:
    """What becomes of one field, for a person: `leaves` is what the receiver would see."""

    name: str
    rule: str
    leaves: object


Convert = Callable[[object], object]


@dataclass(frozen=True, slots=True)
class _Member:
    """How one member of the record leaves: whole (`convert`), or part by part."""

    name: str
    convert: Convert | None
    parts: Mapping[str, Convert | None]
    others: Convert | None

    def departure_of(self, value: object) -> object:
        if self.name not in OBJECTS:
            assert self.convert is not None
            return self.convert(value)
        if value is None:  # contributions alone; their check has passed
            return None
        assert isinstance(value, dict)
        chosen = ((part, value[part], self.parts.get(part, self.others)) for part in value)
        return {part: convert(single) for part, single, convert in chosen if convert is not None}


class Policy:
    """A policy document, ready for records. `secret` is needed where the document hashes."""

    def __init__(self, document: PolicyDocument = DEFAULT_POLICY, secret: bytes | None = None) -> None:
        assert secret is not None or not document.needs_secret, "a policy that hashes needs a secret"
        self.document = document
        self.digest = document.digest
        self.leaves = sorted(name for name, rule in document.fields.items() if rule.action is not Action.DROP)
        self._members = _members(document.fields, secret or b"")
        self._relevant = None if document.relevant is None else _Matcher(document.relevant)
        self._never = _Matcher(document.never)

    def judge(self, value: bytes) -> Departing | HeldBack:
        """What becomes of the anomaly record `value`; raises DamagedAnomalyError."""
        anomaly = _decoded(value)
        reason = self._reason_to_stay(anomaly)
        if reason is not None:
            return HeldBack(reason)
        return Departing(self._fields(anomaly))

    def notice(self, record: Mapping[str, object]) -> bytes:
        """What leaves of an audit record of kind `dropped`: site, time, severities by the fields' rules."""
        left: dict[str, object] = {name: record[name] for name in ("id", "kind", "count")}
        for member in self._members:
            if member.name in ("site", "time"):
                left[member.name] = member.departure_of(record[member.name])
            elif member.name == "severity" and self.document.fields["severity"].action is Action.LEAVE:
                left["severities"] = record["severities"]
        return encode(left)

    def explain(self, value: bytes) -> tuple[str | None, tuple[Explained, ...]]:
        """Why the anomaly is held back (None when it is not), and each field as it would leave."""
        anomaly = _decoded(value)
        leaving = self._fields(anomaly)
        told = []
        for name in anomaly:
            rules = [
                f"{rule}" if field == name else f"{field.partition('.')[2]}: {rule}"
                for field, rule in self.document.fields.items()
                if field.partition(".")[0] == name
            ]
            rule = "; ".join(rules) or ("added by a resend" if name == "resent" else "not named: stays")
            told.append(Explained(str(name), rule, leaving.get(name)))
        return self._reason_to_stay(anomaly), tuple(told)

    def _fields(self, anomaly: dict[str, object]) -> dict[str, object]:
        missing = [member.name for member in self._members if member.name not in anomaly]
        if missing:
            raise DamagedAnomalyError(f"the stored anomaly lacks {', '.join(missing)}")
        fields: dict[str, object] = {}
        for member in self._members:
            single = anomaly[member.name]
            CHECKS[member.name](single)
            fields[member.name] = member.departure_of(single)
        if "resent" in anomaly:
            fields["resent"] = check_resent(anomaly["resent"])
        return fields

    def _reason_to_stay(self, anomaly: dict[str, object]) -> str | None:
        never = self._never.match(anomaly)
        if never is not None:
            return f"the policy lets {never} never leave"
        if self._relevant is not None and self._relevant.match(anomaly) is None:
            return "the policy counts neither its severity nor its device as globally relevant"
        return None


class _Matcher:
    def __init__(self, selection: Selection) -> None:
        self._severities = selection.severities
        self._devices = _device_pattern(selection.devices) if selection.devices else None

    def match(self, anomaly: dict[str, object]) -> str | None:
        """What of the selection names this anomaly; a record that cannot be judged is damaged."""
        if self._severities:
            severity = anomaly.get("severity")
            CHECKS["severity"](severity)
            if severity in self._severities:
                return f"severity {severity}"
        if self._devices is not None:
            device = anomaly.get("device")
            CHECKS["device"](device)
            assert isinstance(device, str)
            if self._devices.fullmatch(device):
                return "its device"
        return None


def _device_pattern(names: tuple[str, ...]) -> re.Pattern[str]:
    alternatives = (re.escape(re.sub(r"\*+", "*", name)).replace(r"\*", ".*") for name in names)
    return re.compile("|".join(f"(?:{pattern})" for pattern in alternatives), re.DOTALL)


def _decoded(value: bytes) -> dict[str, object]:
    try:
        anomaly = decode(value)
    except NotJsonError as error:
        raise DamagedAnomalyError(f"the stored value is no JSON: {error}") from None
    if not isinstance(anomaly, dict):
        raise DamagedAnomalyError("the stored value is no object")
    return anomaly


def _members(fields: Mapping[str, FieldRule], secret: bytes) -> tuple[_Member, ...]:
    names = dict.fromkeys(name.partition(".")[0] for name in fields)
    members = []
    for name in names:
        whole = _converter(name, fields.get(name), secret)
        if name not in OBJECTS:
            if whole is not None:
                members.append(_Member(name, whole, {}, None))
            continue
        parts = {
            field.partition(".")[2]: _converter(field, rule, secret)
            for field, rule in fields.items()
            if field.startswith(f"{name}.")
        }
        if whole is not None or any(convert is not None for convert in parts.values()):
            members.append(_Member(name, None, parts, whole))
    return tuple(members)


def _converter(name: str, rule: FieldRule | None, secret: bytes) -> Convert | None:
    if rule is None or rule.action is Action.DROP:
        return None
    if rule.action is Action.HASH:
        return partial(_hashed, name.encode() + b"\0", secret)
    if rule.action is Action.ROUND:
        assert rule.step is not None
        if name in TIMES:
            return partial(_rounded_down, int(rule.step))
        exponent = Decimal(repr(rule.step)).normalize().as_tuple().exponent
        assert isinstance(exponent, int)
        return partial(_rounded, rule.step, max(0, -exponent))
    return _unchanged


def _unchanged(value: object) -> object:
    return value


def _hashed(context: bytes, secret: bytes, value: object) -> str:
    text = value.encode() if isinstance(value, str) else encode(value)
    return hmac.digest(secret, context + text, "sha256").hex()


def _rounded(step: float, digits: int, value: object) -> object:
    assert isinstance(value, (int, float))
    try:
        multiple = round(round(value / step) * step, digits)
    except OverflowError:
        return value  # so large that its distance to the next number is more than the step
    return multiple if digits else float(multiple)


def _rounded_down(step: int, value: object) -> object:
    assert isinstance(value, int)
    return value - value % step
