"""The compliance policy: refused in one line, or obeyed to the letter."""

from __future__ import annotations

import hmac
import tomllib
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from farshore.agents.errors import SettingsError
from farshore.agents.policy_file import load_policy
from farshore.agents.settings import load_settings
from farshore.schemas.manifest import load_schema
from farshore.schemas.policy import DEFAULT_POLICY, PolicyError, parse_policy
from farshore.streams.delivery.policy import DamagedAnomalyError, Departing, HeldBack, Policy
from farshore.streams.delivery.record_types import CHECKS

from ...site_events import anomaly_record

SECRET = b"a secret of this site"
ANOMALY = anomaly_record(17) | {
    "device": "pump-17",
    "score": 50.126,
    "readings": {"flow": 71.349, "flow.rate": 3, "pressure": -2.26},
    "contributions": {"flow": 0.75, "pressure": 0.25},
}


def policy_of(text: str, secret: bytes | None = SECRET) -> Policy:
    return Policy(parse_policy(tomllib.loads("version = 1\n" + text)), secret)


def left(text: str, **changes: Any) -> dict[str, Any]:
    verdict = policy_of(text).judge(orjson.dumps(ANOMALY | changes))
    assert isinstance(verdict, Departing), verdict
    body: dict[str, Any] = orjson.loads(verdict.body())
    return body


def held(text: str, **changes: Any) -> bool:
    return isinstance(policy_of(text).judge(orjson.dumps(ANOMALY | changes)), HeldBack)


def test_each_rule_does_what_it_says() -> None:
    found = left(
        """
        [fields]
        id = "leave"
        device = "hash"
        time = { round = 60000 }
        score = { round = 0.05 }
        model = "drop"
        contributions = { round = 0.5 }
        "readings.flow" = { round = 0.1 }
        "readings.flow.rate" = "hash"
        "readings.absent" = "leave"
        "source.partition" = "leave"
        """
    )
    assert found == {
        "id": ANOMALY["id"],
        "device": hmac.digest(SECRET, b"device\0pump-17", "sha256").hex(),
        "time": ANOMALY["time"] // 60_000 * 60_000,
        "score": 50.15,
        "contributions": {"flow": 1.0, "pressure": 0.0},
        "readings": {
            "flow": 71.3,
            "flow.rate": hmac.digest(SECRET, b"readings.flow.rate\x003", "sha256").hex(),
        },
        "source": {"partition": 1},
    }


def test_the_more_specific_name_wins() -> None:
    found = left('[fields]\nid="leave"\nreadings="leave"\n"readings.flow"="drop"')
    assert found["readings"] == {"flow.rate": 3, "pressure": -2.26}


def test_contributions_that_a_model_does_not_give_leave_as_none() -> None:
    assert (
        left('[fields]\nid="leave"\n"contributions.flow"="leave"', contributions=None)["contributions"]
        is None
    )


def test_another_secret_gives_another_hash() -> None:
    text = '[fields]\nid="leave"\ndevice="hash"'
    one, other = (
        policy_of(text, secret).judge(orjson.dumps(ANOMALY))
        for secret in (SECRET, b"another secret of a site")
    )
    assert isinstance(one, Departing)
    assert isinstance(other, Departing)
    assert one.fields["device"] != other.fields["device"]


FIELDS = '[fields]\nid="leave"\n'


@pytest.mark.parametrize(
    ("selection", "severity", "device", "expected"),
    [
        ("", "low", "pump-17", False),
        ('[relevant]\nseverities=["high"]', "high", "pump-17", False),
        ('[relevant]\nseverities=["high"]', "low", "pump-17", True),
        ('[relevant]\nseverities=["high"]\ndevices=["pump-*"]', "low", "pump-17", False),
        ('[relevant]\nseverities=["high"]\ndevices=["pump-*"]', "low", "a pump-17", True),
        ('[relevant]\ndevices=["p.mp-17"]', "low", "pump-17", True),
        ('[never]\ndevices=["*-17"]', "critical", "pump-17", True),
        ('[never]\nseverities=["low"]\n[relevant]\ndevices=["*"]', "low", "pump-17", True),
    ],
)
def test_what_is_not_relevant_or_never_leaves_is_held_back(
    selection: str, severity: str, device: str, expected: bool
) -> None:
    assert held(FIELDS + selection, severity=severity, device=device) is expected


def test_a_record_that_cannot_be_judged_is_damaged_and_does_not_leave() -> None:
    with pytest.raises(DamagedAnomalyError, match="device"):
        held(FIELDS + '[never]\ndevices=["pump-17"]', device=["pump-17"])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "fields"),
        ('[fields]\ndevice="leave"', "id"),
        ('[fields]\nid="hash"', "receivers drop repeats"),
        ('[fields]\nid="leave"\noperator="leave"', "'operator' is no member"),
        ('[fields]\nid="leave"\ndevice="send"', "fields.device: give leave"),
        ('[fields]\nid="leave"\nreadings.flow="leave"', "quote"),
        ('[fields]\nid="leave"\nreadings="hash"', "single value is hashed"),
        ('[fields]\nid="leave"\ndevice={round=1}', "only numbers and times"),
        ('[fields]\nid="leave"\ntime={round=0.5}', "whole milliseconds"),
        ('[fields]\nid="leave"\nscore={round=0}', "fields.score"),
        (FIELDS + '[never]\nseverities=["urgent"]', "never.severities.0"),
        (FIELDS + "[never]", "never"),
        (FIELDS + '[always]\nseverities=["low"]', "always"),
    ],
)
def test_a_wrong_policy_is_refused_by_what_is_wrong_in_one_line(text: str, told: str) -> None:
    with pytest.raises(PolicyError, match=told) as raised:
        policy_of(text)
    assert "\n" not in str(raised.value)


def test_the_digest_names_what_a_policy_says_not_how_it_is_written() -> None:
    one = policy_of('[fields]\nid="leave"\nscore={round=1}\n[never]\ndevices=["a","b"]').digest
    same = policy_of('[never]\ndevices=["b","a","a"]\n[fields]\nscore={round=1.0}\nid="leave"').digest
    other = policy_of('[fields]\nid="leave"\nscore={round=2}\n[never]\ndevices=["a","b"]').digest
    assert one == same
    assert len({one, other, DEFAULT_POLICY.digest}) == 3


def test_the_secret_comes_from_its_file_and_is_never_told(tmp_path: Path) -> None:
    policy, secret = tmp_path / "policy.toml", tmp_path / "secret"
    policy.write_text('version = 1\n[fields]\nid = "leave"\ndevice = "hash"\n')
    with pytest.raises(SettingsError, match="FARSHORE_POLICY_SECRET_FILE"):
        load_policy(load_settings(None, policy=policy))
    settings = load_settings(None, policy=policy, policy_secret_file=secret)
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        load_policy(settings)
    secret.write_bytes(b"too short\n")
    with pytest.raises(SettingsError, match="shorter than 16") as raised:
        load_policy(settings)
    assert "too short" not in str(raised.value)
    secret.write_bytes(SECRET + b"\n")
    verdict = load_policy(settings).judge(orjson.dumps(ANOMALY))
    assert isinstance(verdict, Departing)
    assert verdict.fields["device"] == hmac.digest(SECRET, b"device\0pump-17", "sha256").hex()


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"version = ", "no TOML"), (b"\xff", "no TOML"), (b"version = 2\n[fields]\nid='leave'", "version")],
)
def test_a_file_that_is_no_policy_gets_one_line_with_its_name(
    tmp_path: Path, content: bytes, told: str
) -> None:
    path = tmp_path / "policy.toml"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=told) as raised:
        load_policy(load_settings(None, policy=path))
    assert "policy.toml" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_example_in_the_document_is_a_policy() -> None:
    document = Path(__file__).parents[3].joinpath("docs/POLICY.md").read_text("utf-8")
    example = document.split("```toml\n")[1].split("```")[0]
    assert parse_policy(tomllib.loads(example)).needs_secret


def test_an_explanation_tells_each_field_and_what_of_it_would_be_seen() -> None:
    policy = policy_of('[fields]\nid="leave"\n"readings.flow"={round=0.1}\n[never]\nseverities=["low"]')
    reason, fields = policy.explain(orjson.dumps(ANOMALY | {"severity": "low"}))
    assert reason == "the policy lets severity low never leave"
    by_name = {field.name: field for field in fields}
    assert by_name.keys() == ANOMALY.keys()
    assert by_name["readings"].rule == "flow: round to 0.1"
    assert by_name["readings"].leaves == {"flow": 71.3}
    assert by_name["device"].rule == "not named: stays"
    assert by_name["device"].leaves is None


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**40), 2**42),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.sampled_from(["0" * 32, "a@b", "high", "sha256:" + "0" * 64]),
)
VALUES = st.one_of(
    SCALARS, st.lists(SCALARS, max_size=2), st.dictionaries(st.text(max_size=3), SCALARS, max_size=2)
)


@given(st.sampled_from(sorted(CHECKS)), VALUES)
def test_the_checks_say_what_the_schema_says(name: str, value: Any) -> None:
    schema = load_schema("anomaly")["properties"][name]
    # JSON Schema calls 1.0 an integer; a stored time never is one.
    if isinstance(value, float) and value.is_integer() and schema.get("type") == "integer":
        return
    try:
        CHECKS[name](value)
        passes = True
    except DamagedAnomalyError:
        passes = False
    assert passes == Draft202012Validator(schema).is_valid(value)
