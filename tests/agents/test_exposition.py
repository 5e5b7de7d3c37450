from __future__ import annotations

import socket
import urllib.request

import pytest
from prometheus_client import CollectorRegistry, Counter

from farshore.agents.errors import SettingsError
from farshore.agents.exposition import serve_metrics
from farshore.agents.metrics import WORKER_REGISTRY


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
