"""`farshore up`: one site until Ctrl-C, with its data kept for the next time."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

START_SECONDS_MAX = 150


def start(folder: Path, log: Path) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FARSHORE_")}
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-u", "-m", "farshore.agents.commands", "up", "--folder", folder],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def await_line(process: subprocess.Popen[bytes], log: Path, pattern: str) -> str:
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline and process.poll() is None:
        found = re.search(pattern, log.read_text())
        if found:
            return found[1]
        time.sleep(0.1)
    raise AssertionError(f"no {pattern!r} in:\n{log.read_text()}")


def replay(bootstrap: str, file: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "farshore.agents.commands", "replay", file],
        env={**os.environ, "FARSHORE_KAFKA_BOOTSTRAP": bootstrap},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.timeout(600)
def test_up_serves_a_site_ends_on_ctrl_c_and_keeps_its_data(tmp_path: Path) -> None:
    file = tmp_path / "few.csv"
    file.write_text("time,temperature\n" + "".join(f"{1_700_000_000_000 + n},71.0\n" for n in range(40)))
    site, log = tmp_path / "site", tmp_path / "up.log"
    process = start(site, log)
    try:
        bootstrap = await_line(process, log, r"FARSHORE_KAFKA_BOOTSTRAP=(\S+)")
        await_line(process, log, r"(Ctrl-C ends the site)")
        assert "40 events acknowledged" in replay(bootstrap, file)
        process.send_signal(signal.SIGINT)
        assert process.wait(150) == 0, log.read_text()
        assert "Traceback" not in log.read_text()

        process = start(site, log)
        again = await_line(process, log, r"FARSHORE_KAFKA_BOOTSTRAP=(\S+)")
        await_line(process, log, r"(Ctrl-C ends the site)")
        counted = subprocess.run(
            [sys.executable, "-c", COUNT_EVENTS, again],
            capture_output=True,
            text=True,
            timeout=150,
            check=True,
        )
        assert counted.stdout.strip() == "40"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(150)


COUNT_EVENTS = """
import asyncio, sys
from farshore.agents.topic_reader import open_reader

async def main():
    async with open_reader(sys.argv[1]) as reader:
        print(sum(end - start for start, end in (await reader.bounds("events")).values()))

asyncio.run(main())
"""
