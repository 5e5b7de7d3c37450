"""The alert rules: valid to Prometheus' own tool, and firing when they should and only then.

The tool comes with Debian's package `prometheus`. Where it is absent these tests skip and say how to install
it; in CI that is a failure.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

PROMETHEUS = Path(__file__).resolve().parents[2] / "deploy/prometheus"


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is not None:
        return found
    how = "promtool is not installed: apt-get install prometheus (its service is not needed)"
    if os.environ.get("CI"):
        pytest.fail(how)
    pytest.skip(how)


def check(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_configuration_and_rules_are_valid(promtool: str) -> None:
    check(promtool, "check", "config", str(PROMETHEUS / "prometheus.yml"))
    check(promtool, "check", "rules", str(PROMETHEUS / "alerts.yml"))


SERIES = {
    'up{job="scorer", instance="s:9464"}': "1x5 0x55",
    'up{job="bridge", instance="b:9464"}': "1x60",
    'process_start_time_seconds{job="scorer", instance="s:9464"}': "1000x5 2000x55",
    'process_start_time_seconds{job="bridge", instance="b:9464"}': "1000x9 2000x4 3000x4 4000x40",
    'farshore_uplink_state{job="bridge"}': "0x60",
    'farshore_uplink_state{job="scorer"}': "3x60",
    'farshore_consumer_lag_records{group="behind", topic="events", partition="0"}': "0+100x60",
    'farshore_consumer_lag_seconds{group="behind", topic="events", partition="0"}': "0+30x60",
    'farshore_consumer_lag_records{group="catching-up", topic="scored", partition="0"}': "9000-100x60",
    'farshore_consumer_lag_seconds{group="catching-up", topic="scored", partition="0"}': "900x60",
    'farshore_consumer_lag_records{group="farshore-bridge", topic="anomalies", partition="0"}': "0+100x60",
    'farshore_consumer_lag_seconds{group="farshore-bridge", topic="anomalies", partition="0"}': "0+60x60",
    "farshore_consumer_lag_read_timestamp_seconds": "0+60x20 1200x40",
    'farshore_events_total{outcome="scored"}': "0+1000x60",
    'farshore_events_total{outcome="bad-time"}': "0x25 3x35",
    'farshore_deliveries_total{outcome="acknowledged"}': "0+10x60",
    'farshore_deliveries_total{outcome="dropped-by-quota"}': "0x40 5x20",
}
"""A site whose scorer dies after 5 minutes, whose broker is gone after 20 and whose uplink is never there."""

WORKER_DOWN = {"severity": "critical", "job": "scorer", "instance": "s:9464"}
RESTARTING = {"severity": "critical", "job": "bridge", "instance": "b:9464"}
BEHIND = {"severity": "warning", "group": "behind", "topic": "events"}


@pytest.mark.parametrize(
    ("alert", "minute", "fired"),
    [
        ("FarshoreWorkerDown", 5, []),
        ("FarshoreWorkerDown", 10, [WORKER_DOWN]),
        ("FarshoreWorkerRestarting", 18, []),
        ("FarshoreWorkerRestarting", 22, [RESTARTING]),
        ("FarshoreLagGrowing", 3, []),
        ("FarshoreLagGrowing", 30, [BEHIND]),
        ("FarshoreLagUnread", 20, []),
        ("FarshoreLagUnread", 25, [{"severity": "warning"}]),
        ("FarshoreUplinkOffline", 29, []),
        ("FarshoreUplinkOffline", 31, [{"severity": "warning"}]),
        ("FarshoreDeadLetters", 20, []),
        ("FarshoreDeadLetters", 27, [{"severity": "warning", "outcome": "bad-time"}]),
        ("FarshoreAnomaliesDropped", 30, []),
        ("FarshoreAnomaliesDropped", 42, [{"severity": "critical"}]),
    ],
)
def test_an_alert_fires_when_it_should_and_only_then(
    promtool: str, tmp_path: Path, alert: str, minute: int, fired: list[dict[str, str]]
) -> None:
    """A shrinking lag is no alarm, nor is the bridge's while the uplink is down; the scorer's own idle uplink
    gauge hides nothing; scored events are no dead letters."""
    (tmp_path / "alerts.yml").write_text(yaml.safe_dump(without_annotations()))
    (tmp_path / "site.yml").write_text(
        yaml.safe_dump(
            {
                "rule_files": ["alerts.yml"],
                "evaluation_interval": "1m",
                "tests": [
                    {
                        "interval": "1m",
                        "input_series": [
                            {"series": series, "values": values} for series, values in SERIES.items()
                        ],
                        "alert_rule_test": [
                            {
                                "alertname": alert,
                                "eval_time": f"{minute}m",
                                "exp_alerts": [{"exp_labels": labels} for labels in fired],
                            }
                        ],
                    }
                ],
            }
        )
    )
    check(promtool, "test", "rules", str(tmp_path / "site.yml"))


def without_annotations() -> Any:
    """The rules, silent: the tool would compare each word of what they say."""
    rules = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            del rule["annotations"]
    return rules
