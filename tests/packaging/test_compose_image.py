"""The image's recipe against the repository: what it copies exists, reaches the builder and is enough."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from farshore.agents.exposition import HEALTH_PATH
from farshore.agents.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text("utf-8")
IGNORED = (ROOT / ".dockerignore").read_text("utf-8").splitlines()


def copied() -> set[str]:
    """Paths of the repository that the image is built from."""
    instructions = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
    return {path for instruction in instructions for path in instruction.split()[:-1]}


def test_everything_copied_exists_and_reaches_the_builder() -> None:
    let_through = {line[1:] for line in IGNORED if line.startswith("!")}
    assert "*" in IGNORED
    assert copied() == let_through
    for path in copied():
        assert (ROOT / path).exists(), path


def test_every_package_is_in_the_image() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    folders = set(project["tool"]["setuptools"]["package-dir"].values())
    assert folders <= copied()
    assert {project["project"]["readme"], *project["project"]["license-files"]} <= copied()


def test_the_extension_is_built_with_a_compiler_that_the_image_does_not_keep() -> None:
    stages = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert stages == ["python:3.11", "python:3.11-slim"]
    assert "import farshore.streams.scoring._rows" in DOCKERFILE, "optional elsewhere, certain here"
    assert "**/*.so" in IGNORED


def test_what_is_installed_is_checked_against_hashes() -> None:
    installs = re.findall(r"pip install (.+)", DOCKERFILE)
    assert installs
    for install in installs:
        assert "--require-hashes -r requirements/" in install or "--no-deps dist/farshore-" in install
    assert re.search(r"^setuptools==", (ROOT / "requirements/dev.txt").read_text(), re.MULTILINE)


def test_workers_run_without_rights() -> None:
    final = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]
    user = re.search(r"^USER (\d+)$", final, re.MULTILINE)
    assert user is not None
    assert int(user[1]) > 0
    assert 'ENTRYPOINT ["farshore"]' in final


def test_the_image_asks_the_worker_for_its_health_where_it_is_served() -> None:
    check = re.search(r"^HEALTHCHECK .*\\\n.*$", DOCKERFILE, re.MULTILINE)
    assert check is not None
    assert f"'{HEALTH_PATH}'" in check[0]
    default = Settings.model_fields["metrics_port"].default
    assert f"'FARSHORE_METRICS_PORT', '{default}'" in check[0]
