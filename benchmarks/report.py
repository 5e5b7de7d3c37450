"""What every benchmark writes: one JSON document, and the Markdown that is made from it and nothing else."""

import json
import os
import platform
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

OUT = Path("build/benchmarks")
LIBRARIES = ("aiokafka", "faust-streaming", "msgspec", "numpy", "onnxruntime", "orjson")

Json = dict[str, Any]  # decoded JSON


def machine() -> Json:
    """What the figures were taken on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}",
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in LIBRARIES},
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def machine_sentence(of: Json) -> str:
    """The machine in words."""
    libraries = ", ".join(f"{name} {number}" for name, number in of["libraries"].items())
    return (
        f"{of['processor']}, {of['cores']} cores, {of['memory_gb']} GB, {of['system']}, "
        f"Python {of['python']}; {libraries}."
    )


def document(name: str, parameters: Mapping[str, object], results: object) -> Json:
    """The JSON of one benchmark."""
    return {"benchmark": name, "machine": machine(), "parameters": dict(parameters), "results": results}


def write(found: Json, markdown: Callable[[Json], str], out: Path = OUT) -> None:
    """NAME.json and NAME.md, and the Markdown to the terminal."""
    out.mkdir(parents=True, exist_ok=True)
    text = markdown(found)
    (out / f"{found['benchmark']}.json").write_text(json.dumps(found, indent=1) + "\n")
    (out / f"{found['benchmark']}.md").write_text(text, "utf-8")
    print("\n" + text)


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Median (least–most)."""
    if len(set(values)) == 1:
        return f"{values[0]:,.{digits}f}"
    return f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f}–{max(values):,.{digits}f})"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
