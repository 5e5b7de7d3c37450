from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter

from farshore.agents.errors import SettingsError
from farshore.agents.exposition import serve_metrics
from farshore.agents.health import Health, Step
from farshore.agents.metrics import WORKER_REGISTRY
from farshore.streams.liveness import Verdict


def scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        return answer.read().decode()


def test_port_0_serves_the_registry_on_a_free_port_and_tells_it() -> None:
    registry = CollectorRegistry()
    Counter("visits", "Visits.", registry=registry).inc(3)

    port = serve_metrics("127.0.0.1", 0, registry)

    assert port > 0
    assert "visits_total 3.0" in scrape(port)


def test_every_metric_of_the_contract_is_served() -> None:
    text = scrape(serve_metrics("127.0.0.1", 0, WORKER_REGISTRY))
    for name in (
        "farshore_consumer_lag_records",
        "farshore_consumer_lag_seconds",
        "farshore_events_total",
        "farshore_uplink_state",
        "farshore_anomalies_waiting",
    ):
        assert f"# TYPE {name} " in text


def page(port: int, path: str) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        return refused.code, json.load(refused)


def test_health_stands_beside_the_metrics_and_says_why() -> None:
    health = Health()
    port = serve_metrics("127.0.0.1", 0, CollectorRegistry(), health=health)
    assert page(port, "/healthz") == (200, {"alive": True, "why": "waiting for Kafka to check its topics"})
    assert page(port, "/readyz")[0] == 503

    for step in Step:
        health.passed(step)
    health.judged(Verdict(False, "3 records in hand", 120.04))

    assert page(port, "/readyz")[0] == 200
    body = {"alive": False, "why": "3 records in hand", "silent_seconds": 120.0}
    assert page(port, "/healthz") == (503, body)
    assert "python" not in scrape(port)  # every other path is the registry, which is empty


def test_anomalies_waiting_is_no_number_until_the_lag_is_read() -> None:
    """It was 0 at first, as if everything were delivered."""
    code = "import farshore.agents.metrics, prometheus_client as p; print(p.generate_latest().decode())"
    text = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "\nfarshore_anomalies_waiting NaN\n" in text
    assert re.search(r"# HELP farshore_anomalies_waiting .*upper bound", text)


def test_a_port_in_use_is_one_line_that_names_the_setting() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError) as refused:
            serve_metrics("127.0.0.1", port, CollectorRegistry())
    message = str(refused.value)
    assert "FARSHORE_METRICS_PORT" in message
    assert str(port) in message
    assert "\n" not in message


def test_an_address_of_another_machine_is_one_line_that_names_the_setting() -> None:
    with pytest.raises(SettingsError, match="FARSHORE_METRICS_HOST"):
        serve_metrics("192.0.2.1", 0, CollectorRegistry())
