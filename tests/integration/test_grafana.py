"""Every query of the dashboard, asked of a real Prometheus that scrapes a real worker's metrics.

Prometheus is Debian's package. Where it is absent these tests skip and say how to install it; in CI that is a
failure.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import shutil
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest
import yaml
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from farshore.agents import metrics
from farshore.agents.exposition import serve_metrics
from farshore.agents.lag import LagExporter, WatchedGroups
from farshore.local.ports import free_ports
from farshore.schemas.reasons import DeadLetterReason, GapReason
from farshore.schemas.severity import Severity

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = ROOT / "deploy/grafana/farshore.json"
PROMETHEUS = ROOT / "deploy/prometheus"
READY_SECONDS_MAX = 90.0
ANSWER_SECONDS_MAX = 90.0
VARIABLES = {"$__rate_interval": "10s", "$group": ".*", "$topic": ".*"}


@dataclass(frozen=True)
class Query:
    panel: str
    expression: str

    def __str__(self) -> str:
        return f"{self.panel}: {self.expression}"


def dashboard() -> dict[str, Any]:
    return dict(json.loads(DASHBOARD.read_text("utf-8")))


def queries() -> list[Query]:
    found = [
        Query(panel["title"], target["expr"])
        for panel in dashboard()["panels"]
        for target in panel.get("targets", ())
    ]
    assert found
    return found


def program(name: str) -> str:
    """The path of a program of Debian's package; without it the test skips, in CI it fails."""
    found = shutil.which(name)
    if found is not None:
        return found
    how = f"{name} is not installed: apt-get install prometheus (its service is not needed)"
    if os.environ.get("CI"):
        pytest.fail(how)
    pytest.skip(how)


@dataclass(frozen=True)
class PrometheusServer:
    """The HTTP interface of a running Prometheus."""

    port: int

    def ask(self, path: str, **parameters: str) -> Any:
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            body = json.load(answer)
        assert body["status"] == "success", body
        return body["data"]

    def numbers(self, expression: str) -> list[float]:
        return [
            float(entry["value"][1])
            for entry in self.ask("query", query=expression)["result"]
            if not math.isnan(float(entry["value"][1]))
        ]

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=10) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


class Broker(Protocol):
    bootstrap: str


@pytest.fixture(scope="module")
def worker_port(broker: Broker) -> Iterator[int]:
    """A worker's metrics over HTTP: the lag is a real broker's, everything else counts up all the time."""
    for gauge in (metrics.CONSUMER_LAG_RECORDS, metrics.CONSUMER_LAG_SECONDS, metrics.CONSUMER_LAG_BYTES):
        gauge.clear()  # of what other tests in this process have left
    asyncio.run(export_real_lag(broker.bootstrap))
    stop = threading.Event()
    activity = threading.Thread(target=be_active, args=(stop,), daemon=True)
    activity.start()
    yield serve_metrics("127.0.0.1", 0)
    stop.set()
    activity.join(5)


async def export_real_lag(bootstrap: str) -> None:
    topics = {role: f"grafana-{role}-{time.time_ns()}" for role in ("events", "anomalies", "scored")}
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, 2, 1) for topic in topics.values()])
        async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
            for topic in topics.values():
                for number in range(10):
                    await producer.send(topic, b"%d" % number, partition=number % 2)
        partition = TopicPartition(topics["scored"], 0)
        reader = AIOKafkaConsumer(
            bootstrap_servers=bootstrap, group_id="grafana-reader", enable_auto_commit=False
        )
        async with reader:
            reader.assign([partition])
            await reader.commit({partition: 2})
        watched = WatchedGroups(
            (("farshore-scorer", topics["events"]), ("farshore-bridge", topics["anomalies"])),
            (topics["scored"],),
        )
        exporter = LagExporter(bootstrap, watched, interval_seconds=1)
        try:
            assert await exporter.export_once()
        finally:
            await exporter.close()
    finally:
        await admin.delete_topics(list(topics.values()))
        await admin.close()


def be_active(stop: threading.Event) -> None:
    metrics.UPLINK_STATE.set(3)
    metrics.ANOMALIES_WAITING.set(7)
    metrics.STORE_KEPT_TIMESTAMP.set_to_current_time()
    metrics.STORE_BYTES.set(1_000_000)
    metrics.STORE_TIME_TO_DRAIN.set(60)
    while not stop.wait(0.05):
        metrics.EVENTS.labels("scored").inc(100)
        metrics.EVENTS.labels(DeadLetterReason.BAD_TIME.value).inc()
        metrics.ANOMALIES.labels(Severity.HIGH.value).inc()
        metrics.BATCH_ROWS.observe(100)
        metrics.SCORING_SECONDS.observe(0.004)
        metrics.WINDOW_COLD.inc(4)
        metrics.ALARMS_RESTED.inc(2)
        metrics.EVENTS_REBUILT.inc(50)
        metrics.DEVICE_MEMORY_BYTES.set(11_800_000)
        metrics.UPLINK_ATTEMPTS.labels("acknowledged").inc()
        metrics.DELIVERIES.labels("acknowledged").inc(3)
        metrics.STORE_RETIRED.inc(3)
        metrics.GAPS.labels("events", GapReason.RETENTION.value).inc()
        metrics.RECORDS_LOST.labels("events", GapReason.RETENTION.value).inc(30)
        metrics.TRANSACTIONS.labels("committed").inc()


@pytest.fixture(scope="module")
def prometheus(worker_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusServer]:
    """Prometheus with this repository's own configuration, its targets alone replaced."""
    command = program("prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    config["global"] = {
        "scrape_interval": "500ms",
        "scrape_timeout": "500ms",
        "evaluation_interval": "500ms",
    }
    config["rule_files"] = [str(PROMETHEUS / name) for name in config["rule_files"]]
    for job in config["scrape_configs"]:
        job["static_configs"] = [{"targets": [f"127.0.0.1:{worker_port}"]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    server = PrometheusServer(free_ports(1)[0])
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                command,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{server.port}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + READY_SECONDS_MAX
        while not server.ready():
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.1)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def substituted(expression: str) -> str:
    for variable, value in VARIABLES.items():
        expression = expression.replace(variable, value)
    assert "$" not in expression
    return expression


@pytest.mark.broker
@pytest.mark.parametrize("query", queries(), ids=str)
def test_every_query_of_the_dashboard_returns_data(prometheus: PrometheusServer, query: Query) -> None:
    expression = substituted(query.expression)
    deadline = time.monotonic() + ANSWER_SECONDS_MAX
    while not prometheus.numbers(expression):
        assert time.monotonic() < deadline, f"no data for {expression}"
        time.sleep(0.25)


@pytest.mark.broker
def test_the_lag_shown_is_the_brokers(prometheus: PrometheusServer) -> None:
    expression = "sum by (group) (max by (group, topic, partition) (farshore_consumer_lag_records))"
    deadline = time.monotonic() + ANSWER_SECONDS_MAX
    # A scrape that comes too late on a loaded machine leaves nothing to be shown until the next.
    while sorted(totals := prometheus.numbers(expression)) != [8.0, 10.0, 10.0]:
        assert time.monotonic() < deadline, totals
        time.sleep(0.25)


@pytest.mark.broker
def test_every_variable_of_the_dashboard_has_values(prometheus: PrometheusServer) -> None:
    asked = [variable for variable in dashboard()["templating"]["list"] if variable["type"] == "query"]
    assert {variable["name"] for variable in asked} == {"group", "topic"}
    for variable in asked:
        parts = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["definition"])
        assert parts is not None
        selector, label = parts.groups()
        assert prometheus.ask(f"label/{label}/values", **{"match[]": substituted(selector)})


@pytest.mark.broker
def test_every_alert_evaluates(prometheus: PrometheusServer) -> None:
    expected = {
        rule["alert"]: rule["expr"]
        for group in yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
        for rule in group["rules"]
    }
    deadline = time.monotonic() + ANSWER_SECONDS_MAX
    while True:
        rules = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
        if rules and all(rule["health"] == "ok" for rule in rules):
            break
        assert time.monotonic() < deadline, rules
        time.sleep(0.25)
    assert {rule["name"] for rule in rules} == set(expected)


def test_every_metric_has_a_place_on_the_dashboard_and_none_is_unknown() -> None:
    served = {
        metric.name for metric in metrics.WORKER_REGISTRY.collect() if metric.name.startswith("farshore_")
    }
    shown = {
        re.sub(r"_(total|bucket|sum|count)$", "", name)
        for query in queries()
        for name in re.findall(r"farshore_\w+", query.expression)
    }
    assert shown == served


def test_panels_have_a_title_an_explanation_and_a_place_of_their_own() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
        if panel["type"] == "row":
            continue
        assert panel["title"]
        assert panel["description"]
        for source in (panel["datasource"], *(target["datasource"] for target in panel["targets"])):
            assert source == {"type": "prometheus", "uid": "${datasource}"}


def test_the_uplinks_states_are_named() -> None:
    expected = {"0": "offline", "1": "probing", "2": "throttled", "3": "online"}
    panels = [
        panel
        for panel in dashboard()["panels"]
        if any("farshore_uplink_state" in target["expr"] for target in panel.get("targets", ()))
    ]
    assert panels
    for panel in panels:
        (mapping,) = panel["fieldConfig"]["defaults"]["mappings"]
        assert {value: shown["text"] for value, shown in mapping["options"].items()} == expected


def test_grafana_is_provisioned_with_the_dashboard_and_its_source() -> None:
    provisioning = ROOT / "deploy/grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())["datasources"]
    assert source["type"] == "prometheus"
    assert source["isDefault"] is True
    (provider,) = yaml.safe_load((provisioning / "dashboards/farshore.yml").read_text())["providers"]
    assert provider["type"] == "file"
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    assert source["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]
