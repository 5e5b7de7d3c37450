"""The built wheel, in an empty environment: a package that is not listed imports in editable mode and is
missing here."""

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ..compiler import can_build

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {"agents": "agents", "schemas": "schemas", "streams": "streams", "local": "deploy/local"}
DEMO_KEYS = {
    "events",
    "scored",
    "dead_letters",
    "unread",
    "anomalies",
    "acknowledged",
    "waiting",
    "held_back",
    "set_aside",
    "duplicates_at_hub",
    "events_per_second",
    "precision",
    "recall",
}


def copy_source(source: Path) -> Path:
    """The tree as a release would build it: tracked files alone."""
    source.mkdir(parents=True, exist_ok=True)
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", source], input=archive, check=True)
    # Not committed yet counts too, so that the test speaks of what stands in the tree.
    for path in (*SOURCES.values(), "pyproject.toml", "setup.py", "README.md", "LICENSE"):
        subprocess.run(["cp", "-r", "--", ROOT / path, (source / path).parent], check=True)
    return source


def build_wheel(source: Path, out: Path, **environment: str) -> Path:
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, source],
        env=os.environ | environment,
        check=True,
        capture_output=True,
    )
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(copy_source(tmp_path_factory.mktemp("source")), tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def empty_environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh virtual environment with the wheel and its extra [local], at the locked versions."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    lock = (ROOT / "requirements" / "dev.txt").read_text()
    pins = folder / "pins.txt"
    pins.write_text("\n".join(re.findall(r"^[A-Za-z0-9._-]+==[^ ;\\]+", lock, re.MULTILINE)))
    subprocess.run(
        [folder / "bin" / "pip", "install", "--quiet", "--constraint", pins, f"{wheel}[local]"], check=True
    )
    return folder


def test_the_wheel_holds_every_module_and_schema(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    for name, folder in SOURCES.items():
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".pyi", ".json") and "__pycache__" not in path.parts:
                assert f"farshore/{name}/{path.relative_to(ROOT / folder)}" in inside


def test_the_wheel_holds_nothing_but_the_package(wheel: Path) -> None:
    top = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in top if not name.endswith(".dist-info")} == {"farshore"}


def test_the_wheel_holds_the_extension_where_it_can_be_built_and_none_of_its_source(wheel: Path) -> None:
    inside = zipfile.ZipFile(wheel).namelist()
    built = [name for name in inside if name.endswith(".so")]
    assert [name.split(".")[0] for name in built] == ["farshore/streams/scoring/_rows"] * can_build()
    assert not [name for name in inside if name.endswith((".c", ".h"))]


@pytest.mark.timeout(600)
def test_the_demo_runs_from_the_wheel_and_its_receipt_adds_up(
    empty_environment: Path, tmp_path: Path
) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FARSHORE_")}
    done = subprocess.run(
        [empty_environment / "bin" / "farshore", "demo", "--json", "--events", "30000"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report.keys() >= DEMO_KEYS
    assert report["events"] == 30_000 == report["scored"] + report["dead_letters"] + report["unread"]
    assert report["anomalies"] == report["acknowledged"] > 0
    assert report["waiting"] == report["unread"] == 0
    assert report["dead_letters"] == 30
    assert report["ids_agree"]
    # Judged on another seed than the model was fitted on.
    assert report["precision"] > 0.9
    assert report["recall"] > 0.8
