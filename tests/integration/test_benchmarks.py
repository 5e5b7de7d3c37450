"""The benchmarks' commands in short forms, and the documents that show their figures."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from farshore.agents.settings import PREFIX

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "benchmarks"


async def run(
    program: str, *arguments: str, bootstrap: str = "localhost:1"
) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, str(BENCHMARKS / program), *arguments],
        env=environment | {"FARSHORE_KAFKA_BOOTSTRAP": bootstrap},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


async def test_a_slower_stage_is_named(tmp_path: Path) -> None:
    short = ("--rounds", "3", "--events", "1000", "--out", str(tmp_path))
    first = await run("stages.py", *short)
    assert first.returncode == 0, first.stderr
    found = json.loads((tmp_path / "stages.json").read_text())
    stages = ("fetch", "decode", "features", "inference", "encode", "append")
    assert all(min(found["results"][stage]) > 0 for stage in stages)
    assert all(f"| {stage} |" in first.stdout for stage in stages)

    # A baseline in which appending took no time: what it takes now is a regression, and only that is named.
    known = {"append": 0.001, "naive loop": 1.0}
    found["results"] = {name: [known.get(name, 1_000.0)] for name in found["results"]}
    baseline = tmp_path / "baseline.json"
    baseline.write_text(json.dumps(found))
    second = await run("stages.py", *short, "--baseline", str(baseline))
    assert second.returncode == 1
    named = second.stderr.splitlines()[1:]
    assert [line.partition(":")[0] for line in named] == ["append"], second.stderr


@pytest.mark.broker
async def test_memory_stays_bounded_and_flat_over_a_backlog(broker: Any, tmp_path: Path) -> None:
    # The published figure is for 5 million events. 200,000 are 60 MB, fifteen times what may be read and not
    # settled; in so short a run the buffers are still filling, hence the wider bound on growth.
    done = await run(
        "backlog.py", "--events", "200000", "--growth-max", "1.5", "--out", str(tmp_path),
        bootstrap=broker.bootstrap,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "backlog.json").read_text())
    assert found["results"]["resident_mb_max"] < 300
    assert (tmp_path / "backlog.svg").read_text().startswith("<svg")


@pytest.mark.broker
async def test_our_worker_and_the_rivals_do_the_whole_job(broker: Any, tmp_path: Path) -> None:
    done = await run(
        "run.py", "--events", "3000", "--runs", "1", "--rates", "", "--out", str(tmp_path),
        bootstrap=broker.bootstrap,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "rivals.json").read_text())
    assert len(found["results"]["throughput"]) == 4
    for name, runs in found["results"]["throughput"].items():
        assert runs[0]["complete"], name
        assert f"| {name} |" in done.stdout


@pytest.mark.parametrize(
    ("program", "arguments", "said"),
    [
        ("peers.py", (".",), "run.py is missing"),
        ("crayfish.py", ("nowhere.onnx",), "nowhere.onnx is missing"),
        ("publish.py", ("--from", "nowhere", "peers"), "run the benchmark 'peers' first"),
    ],
)
async def test_what_a_benchmark_needs_and_has_not_is_said_in_one_line(
    program: str, arguments: tuple[str, ...], said: str
) -> None:
    done = await run(program, *arguments)
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_documents_show_what_the_published_json_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import publish

    found = publish.published()
    for document in publish.DOCUMENTS:
        text = document.read_text("utf-8")
        assert publish.rendered(text, found) == text, f"{document.name}: run `make benchmark-publish`"
