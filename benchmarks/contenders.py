"""Programs that do the job, and one run of one of them as a process of its own."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from job import PARTITIONS
from topics import count_records, count_sources, delete_topics, make_topic, new_name

HERE = Path(__file__).resolve().parent
RUN_SECONDS_MAX = 600.0
_REPORTED = ("events", "seconds", "cpu_seconds")
LOOK_SECONDS = 0.1
STOP_SECONDS_MAX = 10.0
ENDLESS = 10**12


@dataclass(frozen=True, slots=True)
class Contender:
    """A command; a slow one gets at most `events_max` events, or it would take all day."""

    name: str
    command: Sequence[str]
    events_max: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    def started(
        self, bootstrap: str, in_topic: str, out_topic: str, package: Path, events: int
    ) -> "subprocess.Popen[str]":
        """The running program; its last line on standard output is its report."""
        task = {
            "BOOTSTRAP": bootstrap,
            "IN_TOPIC": in_topic,
            "OUT_TOPIC": out_topic,
            "PACKAGE": str(package),
            "MODEL": str(package / "model.onnx"),
            "N": str(events),
        }
        return subprocess.Popen(
            list(self.command),
            cwd=HERE,
            env={**os.environ, "OMP_NUM_THREADS": "1", **task, **self.environment},
            stdout=subprocess.PIPE,
            text=True,
        )


def program(name: str, path: str, events_max: int | None = None, **environment: str) -> Contender:
    """A Python program of this folder."""
    return Contender(name, (sys.executable, str(HERE / path)), events_max, environment)


OURS = program("farshore", "ours.py")
STOCK_FAUST = program("stock Faust, one event at a time", "rivals/stock_faust.py", 40_000)
AIOKAFKA = program("aiokafka loop, `send_batch`", "rivals/aiokafka_loop.py")
CONFLUENT = program("confluent-kafka loop, tuned", "rivals/confluent_loop.py")
CONTENDERS = (OURS, CONFLUENT, AIOKAFKA, STOCK_FAUST)


@dataclass(frozen=True, slots=True)
class Result:
    """One run of one contender. `memory` is (seconds since the start, resident MB) of the process tree."""

    events: int
    events_per_second: float
    events_per_cpu_second: float
    resident_mb_max: float
    complete: bool
    memory: list[tuple[float, float]]
    more: dict[str, float]


def run_once(
    contender: Contender,
    bootstrap: str,
    in_topic: str,
    package: Path,
    events: int,
    *,
    partitions: int = PARTITIONS,
    by_source: bool = True,
) -> Result:
    """Let one contender work through `events` of the topic. Its output is counted, then deleted."""
    out_topic = new_name("out")
    asyncio.run(make_topic(bootstrap, out_topic, partitions, output=True))
    count = min(events, contender.events_max or events)
    process = contender.started(bootstrap, in_topic, out_topic, package, count)
    memory = _watch(process)
    assert process.stdout is not None
    lines = [line for line in process.stdout.read().splitlines() if line.startswith("{")]
    if not lines:
        raise SystemExit(f"{contender.name} printed no result")
    report = json.loads(lines[-1])
    counted = count_sources if by_source else count_records
    found = asyncio.run(counted(bootstrap, out_topic, partitions))
    asyncio.run(delete_topics(bootstrap, out_topic))
    return Result(
        events=report["events"],
        events_per_second=report["events"] / report["seconds"],
        events_per_cpu_second=report["events"] / report["cpu_seconds"],
        resident_mb_max=max(megabytes for _, megabytes in memory),
        complete=found >= report["events"],
        memory=memory,
        more={name: value for name, value in report.items() if name not in _REPORTED},
    )


def _watch(process: "subprocess.Popen[str]") -> list[tuple[float, float]]:
    """Resident memory until the end; a program that takes too long is killed."""
    memory = [(0.0, 0.0)]
    begin = time.monotonic()
    while process.poll() is None:
        now = time.monotonic() - begin
        with contextlib.suppress(psutil.Error):
            memory.append((round(now, 1), round(resident_mb(process.pid), 1)))
        if now > RUN_SECONDS_MAX:
            stop(process)
        time.sleep(LOOK_SECONDS)
    return memory


def resident_mb(pid: int) -> float:
    """Of a process and its children."""
    root = psutil.Process(pid)
    return sum(part.memory_info().rss for part in (root, *root.children(recursive=True))) / 2**20


def stop(process: "subprocess.Popen[str]") -> None:
    """End a program of ours and its children, with force if need be."""
    family = []
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(process.pid)
        family = [root, *root.children(recursive=True)]
    process.terminate()
    _, alive = psutil.wait_procs(family, timeout=STOP_SECONDS_MAX)
    for part in alive:
        part.kill()
    process.wait()
