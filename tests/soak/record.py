"""A soak's result as files: Markdown to read, JSON to compare, both with what it ran on."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from farshore.local.kafka_pins import KAFKA_VERSION

from .report import SoakReport

__all__ = ["surroundings", "write_record"]

LIBRARIES = ("farshore", "aiokafka", "faust-streaming", "msgspec", "numpy", "onnxruntime", "orjson")
GIB = 2**30


def surroundings() -> dict[str, str]:
    """What ran and on what kind of machine; nothing that names this one."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    return {
        "source": _commit(),
        "kafka": KAFKA_VERSION,
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
        "system": f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}",
        "machine": f"{os.cpu_count()} cores, {memory:.0f} GB",
    }


def write_record(report: SoakReport, folder: Path) -> Path:
    """Markdown and JSON in `folder`, named by date, guarantee and seed; the Markdown's path."""
    now, ran_on = datetime.now(UTC), surroundings()
    path = folder / f"{now:%Y-%m-%d}-{report.guarantee}-{report.seed}.md"
    folder.mkdir(parents=True, exist_ok=True)
    title = f"# Soak of {now:%Y-%m-%d}: {report.seconds:.0f} s, {report.guarantee}, seed {report.seed}"
    verdict = report.verdict().replace("\n", "\n- ")
    again = f"Repeat it with `{report.command()}`."
    ran = ", ".join(f"{name} {value}" for name, value in ran_on.items()) + "."
    path.write_text("\n\n".join((title, verdict, again, report.table(), ran)) + "\n", "utf-8")
    told = {"date": f"{now:%Y-%m-%d}", "surroundings": ran_on, **asdict(report)}
    path.with_suffix(".json").write_text(json.dumps(told, indent=1) + "\n", "utf-8")
    return path


def _commit() -> str:
    """The commit that the working tree is at, marked when files differ from it."""
    asked = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.strip() or "unknown"
