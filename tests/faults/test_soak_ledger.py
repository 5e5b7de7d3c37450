"""The soak's books: whatever the topics could wrongly hold is told, and nothing else is."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import psutil
import pytest

from farshore.local.kafka_pins import KAFKA_VERSION
from farshore.local.ports import free_ports

from ..soak import __main__ as soak_command
from ..soak.ledger import Event, Fence, Guarantee, Kind, Ledger
from ..soak.record import write_record
from ..soak.report import SoakReport
from ..soak.vitals import Life, Sample
from ..tcp_proxy import LOOPBACK, TcpProxy

NORMAL, ANOMALOUS, HOSTILE, FUZZED = (0, 0), (0, 1), (1, 0), (1, 1)
ENDS = {0: 2, 1: 2}
MARKS = {NORMAL: ("pump-1", 1), ANOMALOUS: ("pump-2", 2), HOSTILE: 11, FUZZED: 22}


def score(ledger: Ledger, position: tuple[int, int], at: int, *, anomaly: bool = False) -> None:
    ledger.scored(position, at, mark=MARKS[position], anomaly=anomaly, checksum=7)


def books(guarantee: Guarantee = Guarantee.AT_LEAST_ONCE, *, without: str = "") -> Ledger:
    """Four events and what should become of each, but for one thing."""
    ledger = Ledger(guarantee)
    for position, kind in ((NORMAL, Kind.NORMAL), (ANOMALOUS, Kind.ANOMALOUS), (HOSTILE, Kind.HOSTILE)):
        ledger.event(position, Event(kind, MARKS[position]))
    ledger.event(FUZZED, Event(Kind.ANY, MARKS[FUZZED]))
    if without != "a score":
        score(ledger, NORMAL, 0)
    if without != "an alarm":
        score(ledger, ANOMALOUS, 1, anomaly=True)
    else:
        score(ledger, ANOMALOUS, 1)
    if without != "a dead letter":
        ledger.dead_letter(HOSTILE, 0, MARKS[HOSTILE])
    ledger.dead_letter(FUZZED, 1, MARKS[FUZZED])
    if without != "an anomaly":
        ledger.stored(b"id", ANOMALOUS)
    return ledger


@pytest.mark.parametrize("guarantee", Guarantee)
def test_books_that_are_in_order_are_found_so(guarantee: Guarantee) -> None:
    ledger = books(guarantee)
    assert ledger.judge(ENDS, MARKS) == []
    assert ledger.judge(ENDS) == []
    counts = ledger.counts
    assert (counts.events, counts.scored, counts.dead_letters, counts.anomalies, counts.repeats) == (
        4, 2, 2, 1, 0
    )  # fmt: skip


@pytest.mark.parametrize(
    ("without", "told"),
    [
        ("a score", "1 events without any outcome (partition/offset 0/0)"),
        ("a dead letter", "1 events without any outcome (partition/offset 1/0)"),
        ("an alarm", "1 events that should be scored, as an anomaly and are not"),
        ("an anomaly", "1 events anomalous but not in the store"),
    ],
)
def test_what_is_missing_is_told_with_its_place(without: str, told: str) -> None:
    assert books(without=without).judge(ENDS)[0].startswith(told)


def test_what_is_not_committed_yet_is_not_missed_and_is_judged_later() -> None:
    ledger = books(without="a score")
    assert ledger.judge({0: 0, 1: 2}) == []
    assert ledger.judge(ENDS) == ["1 events without any outcome (partition/offset 0/0)"]


def both(ledger: Ledger) -> None:
    score(ledger, FUZZED, 9)


def hostile_scored(ledger: Ledger) -> None:
    score(ledger, HOSTILE, 9)


def second_key(ledger: Ledger) -> None:
    ledger.stored(b"another id", ANOMALOUS)


def stored_for_nothing(ledger: Ledger) -> None:
    ledger.stored(b"another id", NORMAL)


def scored_differently(ledger: Ledger) -> None:
    ledger.scored(NORMAL, 9, mark=MARKS[NORMAL], anomaly=False, checksum=8)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (both, "both scored and a dead letter"),
        (hostile_scored, "that should be a dead letter and are not"),
        (second_key, "has two keys"),
        (stored_for_nothing, "in the store but not scored as anomalies"),
        (scored_differently, "scored twice and differently"),
    ],
)
def test_what_is_too_much_is_told(spoil: Callable[[Ledger], None], told: str) -> None:
    ledger = books()
    spoil(ledger)
    assert any(told in sentence for sentence in ledger.judge(ENDS))


def test_an_outcome_that_tells_of_another_event_is_told() -> None:
    ledger = books(without="a score")
    ledger.scored(NORMAL, 0, mark=("pump-9", 1), anomaly=False, checksum=7)
    assert ledger.judge(ENDS) == ["1 events told of wrongly (partition/offset 0/0)"]


def test_an_event_that_was_acknowledged_and_is_not_in_the_topic_is_told() -> None:
    (sentence,) = books().judge(ENDS, [NORMAL, (1, 5)])
    assert (
        sentence
        == "1 events acknowledged to their producer but not in the events topic (partition/offset 1/5)"
    )


def test_at_least_once_may_repeat_what_was_not_committed_and_nothing_else() -> None:
    ledger = books()
    ledger.fence(Fence(committed={0: 1, 1: 1}, scored_ends={0: 5}, dead_letter_ends={1: 5}))
    score(ledger, ANOMALOUS, 6, anomaly=True)  # not committed when the fault began
    score(ledger, NORMAL, 4)  # written before that
    assert ledger.judge(ENDS) == []
    assert ledger.counts.repeats == 2
    score(ledger, NORMAL, 7)
    ledger.dead_letter(HOSTILE, 8, MARKS[HOSTILE])
    assert ledger.judge(ENDS) == ["2 records repeated of events that were committed"]
    assert ledger.judge(ENDS) == []  # told once


def test_exactly_once_may_repeat_nothing() -> None:
    ledger = books(Guarantee.EXACTLY_ONCE)
    score(ledger, ANOMALOUS, 6, anomaly=True)
    assert ledger.judge(ENDS) == ["1 records repeated for committed readers"]


def test_a_process_that_is_gone_is_not_looked_at() -> None:
    process = subprocess.Popen(["true"])
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    life = Life("score", process.pid)
    life.look()
    process.wait()
    life.look()
    assert life.samples == []


def test_a_worker_that_grows_is_told_and_one_that_does_not_is_not() -> None:
    flat = [Sample(float(at), 120.0 + at % 2, 23) for at in range(8)]
    growing = [Sample(float(at), 120.0 + 20 * at, 23 + 4 * at) for at in range(8)]
    assert Life("score", 1, flat).broken() == []
    assert Life("score", 1, growing).broken() == [
        "the memory of a score grew from 140 to 240 MB",
        "the file descriptors of a score grew from 27 to 47",
    ]


def test_a_report_says_what_broke_in_text_and_writes_itself_as_markdown_and_json(tmp_path: Path) -> None:
    report = SoakReport(
        seed=7, guarantee="at-least-once", events_per_second=500, asked_seconds=50.0, seconds=60.0
    )
    report.row("line cut").note_recovery(2.5)
    report.row("line cut").injected = 1
    assert report.verdict() == "soak: every promise held (at-least-once, 60 s, SEED=7)"
    report.broken.append("after line cut: 1 events without any outcome (partition/offset 0/0)")
    written = write_record(report, tmp_path / "soak")
    text = written.read_text()
    assert "1 promises broken" in text
    assert "- after line cut: 1 events without any outcome" in text
    assert "| line cut | 1        | 2.5" in text
    told = json.loads(written.with_suffix(".json").read_text())
    assert (told["seed"], told["rows"]["line cut"]["worst_recovery_seconds"]) == (7, 2.5)
    assert told["broken"] == report.broken
    assert "`make soak SECONDS=50 RATE=500 GUARANTEE=at-least-once SEED=7`" in text
    assert f"kafka {KAFKA_VERSION}" in text
    assert told["surroundings"]["aiokafka"] == version("aiokafka")
    assert str(Path(__file__).parent) not in text + written.with_suffix(".json").read_text()


@pytest.mark.parametrize("broken", [[], ["after line cut: 1 events without any outcome"]])
def test_a_soak_ends_with_1_when_a_promise_broke_and_shows_its_table_in_any_case(
    broken: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def ran(_options: object, seed: int, _folder: Path) -> SoakReport:
        return SoakReport(seed=seed, guarantee="at-least-once", broken=broken)

    monkeypatch.setattr(soak_command, "_run", ran)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["soak", "--seconds", "1", "--seed", "7"])
    assert soak_command.main() == (1 if broken else 0)
    told = capsys.readouterr().out
    named = "faults injected|events in|scored|dead letters|anomalies|duplicates|worst recovery|memory, MB"
    assert [name for name in named.split("|") if name not in told] == []
    assert all(sentence in told for sentence in broken)


async def test_the_proxy_changes_no_byte_and_delays_silences_and_cuts_as_it_is_told() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65_536):
            writer.write(piece)
            await writer.drain()
        writer.close()

    server_port, proxy_port = free_ports(2)
    sent = os.urandom(300_000)
    async with (
        await asyncio.start_server(echo, LOOPBACK, server_port),
        TcpProxy(proxy_port, server_port) as proxy,
    ):

        async def there_and_back(data: bytes) -> float:
            started = time.monotonic()
            writer.write(data)
            assert await reader.readexactly(len(data)) == data
            return time.monotonic() - started

        reader, writer = await asyncio.open_connection(LOOPBACK, proxy_port)
        await there_and_back(sent)
        proxy.slow(delay_seconds=0.2)
        assert await there_and_back(b"late") >= 0.4
        proxy.slow(bytes_per_second=1_500_000)
        assert await there_and_back(sent) >= 0.3
        proxy.silence()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(there_and_back(b"unheard"), 0.3)
        proxy.heal()
        assert await reader.readexactly(7) == b"unheard"
        proxy.cut()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await there_and_back(b"x")
        reader, writer = await asyncio.open_connection(LOOPBACK, proxy_port)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await there_and_back(b"refused")
        proxy.heal()
        reader, writer = await asyncio.open_connection(LOOPBACK, proxy_port)
        await there_and_back(sent)
        writer.close()
