"""docker-compose.yml: valid to the Compose specification, and in agreement with what is around it."""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from farshore.agents.admin import site_topics
from farshore.agents.exposition import HEALTH_PATH
from farshore.agents.settings import PREFIX, Settings, load_settings
from farshore.schemas.topics import Role

ROOT = Path(__file__).resolve().parents[2]
COMPOSE_FILE = ROOT / "docker-compose.yml"
SERVICES = {"kafka", "scorer", "bridge", "eventhubs-emulator", "azurite", "prometheus", "grafana"}
WORKERS = ("scorer", "bridge")
YEAR_MINUTES = 365 * 24 * 60


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return dict(yaml.safe_load(COMPOSE_FILE.read_text("utf-8")))


@pytest.fixture(scope="module")
def specification() -> Any:
    """The Compose specification's schema, as the package check-jsonschema ships it."""
    folder = resources.files("check_jsonschema") / "builtin_schemas" / "vendor"
    return json.loads((folder / "compose-spec.json").read_text("utf-8"))


def resolved(value: str) -> str:
    """What Compose makes of `value` where nothing is set: defaults, and a stand-in for what is required."""
    return re.sub(
        r"\$\{(\w+)(?::([-?])([^}]*))?\}",
        lambda found: found[3] if found[2] == "-" else f"/given/{found[1].lower()}",
        value,
    )


def settings_of(compose: dict[str, Any], service: str) -> dict[str, str]:
    environment = compose["services"][service]["environment"]
    return {name: resolved(value) for name, value in environment.items() if name.startswith(PREFIX)}


def mounts(compose: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Service, source and target of every mount."""
    return [
        (name, *resolved(volume).removesuffix(":ro").rsplit(":", 1))  # type: ignore[misc]
        for name, service in compose["services"].items()
        for volume in service.get("volumes", ())
    ]


def test_the_file_is_valid_to_the_compose_specification(compose: dict[str, Any], specification: Any) -> None:
    validator = jsonschema.Draft202012Validator(specification)
    assert [error.message for error in validator.iter_errors(compose)] == []


def test_the_specification_refuses_what_is_wrong(compose: dict[str, Any], specification: Any) -> None:
    wrong = {**compose, "services": {**compose["services"], "kafka": {"imagee": "apache/kafka"}}}
    assert list(jsonschema.Draft202012Validator(specification).iter_errors(wrong))


def test_it_has_every_service_of_a_site_and_each_is_bounded(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == SERVICES
    for name, service in compose["services"].items():
        assert "mem_limit" in service, name
        assert "restart" in service, name
        assert service["logging"]["options"]["max-size"], name
        if name != "eventhubs-emulator":  # the image has nothing to ask its own health with
            assert service["healthcheck"]["test"][0] == "CMD", name


def test_every_image_has_a_version(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        image, _, tag = service["image"].rpartition(":")
        assert image, name
        assert tag == "local" if "build" in service else re.fullmatch(r"v?\d+\.\d+\.\d+", tag), name


def test_ports_are_opened_on_this_machine_alone_and_only_once(compose: dict[str, Any]) -> None:
    opened = [resolved(port) for service in compose["services"].values() for port in service.get("ports", ())]
    assert all(port.startswith("127.0.0.1:") for port in opened)
    assert len({port.split(":")[1] for port in opened}) == len(opened)


def test_what_it_mounts_and_builds_from_exists(compose: dict[str, Any]) -> None:
    named = set(compose["volumes"])
    for service, source, target in mounts(compose):
        assert target.startswith("/"), service
        if source.startswith("./"):
            assert (ROOT / source).exists(), source
        else:
            assert source in named or source == "/given/model_folder", source
    for name in WORKERS:
        build = compose["services"][name]["build"]
        assert (ROOT / build["context"] / build["dockerfile"]).is_file()


def test_every_setting_it_names_is_known(compose: dict[str, Any]) -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    named = set(re.findall(rf"\b{PREFIX}\w+", COMPOSE_FILE.read_text("utf-8")))
    assert named
    assert named <= known


@pytest.mark.parametrize("worker", WORKERS)
def test_a_worker_accepts_its_settings(
    compose: dict[str, Any], worker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(PREFIX + name.upper(), raising=False)
    for name, value in settings_of(compose, worker).items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    targets = {target for service, _, target in mounts(compose) if service == worker}
    assert targets == ({str(settings.model)} if worker == "scorer" else set())
    kafka = compose["services"]["kafka"]["environment"]
    assert f"://{settings.kafka_bootstrap}" in kafka["KAFKA_ADVERTISED_LISTENERS"]
    check = "".join(compose["services"][worker]["healthcheck"]["test"])
    assert f":{settings.metrics_port}{HEALTH_PATH}'" in check
    assert compose["services"][worker]["restart"] == "unless-stopped"  # a worker that is stuck ends itself


def test_prometheus_scrapes_the_port_that_each_worker_serves(compose: dict[str, Any]) -> None:
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    scraped = {job["job_name"]: job["static_configs"][0]["targets"][0] for job in config["scrape_configs"]}
    assert scraped == {
        worker: f"{worker}:{settings_of(compose, worker)['FARSHORE_METRICS_PORT']}" for worker in WORKERS
    }


def test_grafana_finds_what_is_mounted(compose: dict[str, Any]) -> None:
    targets = {target: source for service, source, target in mounts(compose) if service == "grafana"}
    home = compose["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert targets[home] == "./deploy/grafana/farshore.json"
    provisioning = ROOT / targets["/etc/grafana/provisioning"]
    (provider,) = yaml.safe_load((provisioning / "dashboards/farshore.yml").read_text())["providers"]
    assert Path(home).parent == Path(provider["options"]["path"])
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"


def test_the_broker_is_set_for_long_outages_and_large_records(compose: dict[str, Any]) -> None:
    kafka = compose["services"]["kafka"]["environment"]
    assert kafka["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    assert int(kafka["KAFKA_OFFSETS_RETENTION_MINUTES"]) >= YEAR_MINUTES
    dead_letters = next(
        spec for spec in site_topics(Settings.model_construct()) if spec.role is Role.DEAD_LETTERS
    )
    assert int(kafka["KAFKA_MESSAGE_MAX_BYTES"]) >= int(dead_letters.config["max.message.bytes"])
    assert int(kafka["KAFKA_REPLICA_FETCH_MAX_BYTES"]) >= int(kafka["KAFKA_MESSAGE_MAX_BYTES"])
    listeners = dict(part.split("://") for part in kafka["KAFKA_LISTENERS"].split(","))
    advertised = resolved(kafka["KAFKA_ADVERTISED_LISTENERS"]).split(",")
    for name, address in (part.split("://") for part in advertised):
        assert listeners[name].rpartition(":")[2] == address.rpartition(":")[2]
    assert kafka["KAFKA_CONTROLLER_QUORUM_VOTERS"].endswith(listeners["CONTROLLER"])


def test_the_emulator_has_the_hub_that_the_bridge_sends_to(compose: dict[str, Any]) -> None:
    (config_file,) = [
        ROOT / source for service, source, _ in mounts(compose) if service == "eventhubs-emulator"
    ]
    (namespace,) = json.loads(config_file.read_text())["UserConfig"]["NamespaceConfig"]
    assert (namespace["Type"], namespace["Name"]) == ("EventHub", "emulatorNs1")  # it knows no other
    (hub,) = namespace["Entities"]
    bridge = settings_of(compose, "bridge")
    assert hub["Name"] == bridge["FARSHORE_EVENTHUB_NAME"]
    assert hub["PartitionCount"] == 4
    connection = bridge["FARSHORE_EVENTHUB_CONNECTION_STRING"]
    assert connection.startswith("Endpoint=sb://eventhubs-emulator;")
    assert connection.endswith("UseDevelopmentEmulator=true;")
