"""A worker as a real process, and waiting for what it does: by looking again, within generous bounds."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

WAIT_SECONDS_MAX = 150.0
LOOK_SECONDS = 0.2
# A worker promises 9 s for what waits on others; the rest is for a machine that is slow itself.
STOP_SECONDS_MAX = 10.0
WORKING = "is working as a member of group"


async def until(
    look: Callable[[], Awaitable[bool] | bool],
    what: str | Callable[[], str],
    seconds_max: float = WAIT_SECONDS_MAX,
) -> None:
    """Wait until `look` says yes; `what` it waits for is asked for at the end, for logs as they are then."""
    deadline = time.monotonic() + seconds_max
    while True:
        answer = look()
        if answer if isinstance(answer, bool) else await answer:
            return
        if time.monotonic() >= deadline:
            raise AssertionError(
                f"after {seconds_max:g} s: not yet {what if isinstance(what, str) else what()}"
            )
        await asyncio.sleep(LOOK_SECONDS)


class Worker:
    """One worker process; its log is a file."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        *,
        program: Sequence[str] = ("-m", "farshore.agents.commands"),
    ) -> None:
        self.log_path = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, *program, *command],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def log(self) -> str:
        """Everything it has printed."""
        return self.log_path.read_text("utf-8", "replace")

    def lines(self, *levels: str) -> list[str]:
        """Log lines of these levels, without their time."""
        return [
            line.split(" ", 2)[-1]
            for line in self.log.splitlines()
            if any(f" {level} " in line for level in levels)
        ]

    def metric(self, name: str, **labels: str) -> float:
        """The value of one metric now; 0 where it has none yet."""
        port = re.findall(r"metrics on port (\d+)", self.log)[-1]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            families = text_string_to_metric_families(answer.read().decode())
        samples = (sample for family in families for sample in family.samples)
        return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())

    def page(self, path: str, port: int | None = None) -> tuple[int, dict[str, Any]]:
        """Status and JSON of `/healthz` or `/readyz`."""
        port = port or int(re.findall(r"metrics on port (\d+)", self.log)[-1])
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as refused:
            return refused.code, json.load(refused)

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self.process.poll() is None

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    async def stop(self, seconds_max: float = STOP_SECONDS_MAX) -> None:
        """SIGTERM; insists on exit code 0 within `seconds_max`."""
        self.process.send_signal(signal.SIGTERM)
        code = await self.ended(seconds_max)
        assert code == 0, f"exit code {code}:\n{self.log}"

    async def ended(self, seconds_max: float = WAIT_SECONDS_MAX) -> int:
        """The exit code, once there is one."""
        await until(lambda: not self.running, lambda: f"ended; its log:\n{self.log}", seconds_max)
        return int(self.process.returncode)

    async def working(self, seconds_max: float = WAIT_SECONDS_MAX) -> None:
        """Wait until the worker says that it works."""

        def look() -> bool:
            assert self.running, f"ended with {self.process.returncode}:\n{self.log}"
            return WORKING in self.log

        await until(look, lambda: f"working; its log:\n{self.log}", seconds_max)
