"""The Java command line for a program of Kafka's: everything up to the main class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .java import Java

__all__ = ["broker_options", "java_command", "tool_options"]

TOOL_HEAP_MB = 256


def broker_options(log_settings: Path, heap_mb: int) -> list[str]:
    """Options of the long-running broker. Out of memory ends it, rather than leaving it half alive."""
    return [f"-Xmx{heap_mb}m", "-XX:+ExitOnOutOfMemoryError", *_common(log_settings)]


def tool_options(log_settings: Path) -> list[str]:
    """Options of a tool that runs for a second: no optimizing compiler, no collector threads."""
    return [f"-Xmx{TOOL_HEAP_MB}m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", *_common(log_settings)]


def java_command(java: Java, jars: Sequence[Path], options: Sequence[str]) -> list[str]:
    """Java, its options and the class path."""
    return [str(java.program), *options, "-cp", ":".join(str(jar) for jar in jars)]


def _common(log_settings: Path) -> list[str]:
    return ["-Djava.awt.headless=true", f"-Dlog4j2.configurationFile={log_settings}"]
