"""`farshore replay`: files as events, every row, whatever the form."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ..site import Site, values_of

pytestmark = pytest.mark.broker


async def events_of(site: Site) -> list[dict[str, object]]:
    values = values_of(await site.records(site.settings.topic_events))
    return sorted(values, key=lambda value: int(value["time"]))


async def test_files_of_every_form_arrive_row_by_row(site: Site, tmp_path: Path) -> None:
    comma = tmp_path / "comma.csv"
    comma.write_text("pump,time,flow,note\na,1000,1.5,x\nb,2000,2,\n")
    done = await site.run("replay", str(comma), "--device", "pump")
    assert (done.returncode, done.stderr) == (0, "")
    assert await events_of(site) == [
        # What is no number is passed on as it stands: the scorer says why it cannot be scored.
        {"device": "a", "time": 1000, "readings": {"flow": 1.5, "note": "x"}},
        {"device": "b", "time": 2000, "readings": {"flow": 2, "note": None}},
    ]
    assert {record.key for record in await site.records(site.settings.topic_events)} == {b"a", b"b"}

    semicolon = tmp_path / "semi.csv"
    semicolon.write_text("when;flow\n2024-07-01 12:00:00;3.25\n")
    arguments = ("--time", "when", "--timezone", "Europe/Berlin", "--rate", "100")
    done = await site.run("replay", str(semicolon), *arguments)
    assert done.returncode == 0, done.stderr
    assert (await events_of(site))[-1] == {
        "device": "semi",
        "time": int(datetime.fromisoformat("2024-07-01T10:00:00+00:00").timestamp() * 1000),
        "readings": {"flow": 3.25},
    }

    parquet = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"time": [5, 6, 7], "flow": [0.5, 1.5, None], "pump": ["p", "q", "p"]}), parquet)
    done = await site.run("replay", str(parquet), "--device", "pump")
    assert done.returncode == 0, done.stderr
    assert "3 events acknowledged" in done.stdout
    by_time = {value["time"]: value for value in await events_of(site)}
    assert by_time[7] == {"device": "p", "time": 7, "readings": {"flow": None}}


@pytest.mark.parametrize(
    ("text", "arguments", "said"),
    [
        ("pump,time,flow\na,1,2\n", ["--device", "pumps"], "--device pumps: no such column"),
        ("pump,at,flow\na,1,2\n", [], "name the time's column with --time"),
        ("", [], "is empty"),
        ("time\n1\n", [], "no columns are left for readings"),
        ("time,flow\n1,\udcff\n", [], "is no CSV"),
        (None, [], "is missing"),
    ],
)
async def test_a_file_that_cannot_be_replayed_gets_one_clear_line(
    site: Site, tmp_path: Path, text: str | None, arguments: list[str], said: str
) -> None:
    file = tmp_path / "given.csv"
    if text is not None:
        file.write_text(text, "utf-8", errors="surrogateescape")
    done = await site.run("replay", str(file), *arguments)
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("7", ", row 1501: column 'flow': the row has 1 cells, the header has 3"),
        ("7,1,2,3", ", row 1501: column 'note' is the last, and cells follow it"),
        ("7,1," + "x" * 200_000, "after row 1500: "),
    ],
)
async def test_a_bad_row_in_mid_file_is_named_and_what_came_before_it_is_counted(
    site: Site, tmp_path: Path, bad: str, said: str
) -> None:
    file = tmp_path / "given.csv"
    good = "".join(f"{number},{number},\n" for number in range(1_500))
    file.write_text(f"time,flow,note\n{good}{bad}\n9,9,\n")
    done = await site.run("replay", str(file))
    assert done.returncode == 1
    assert said in done.stderr
    assert "1500 events before it are acknowledged" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert len(await site.records(site.settings.topic_events)) == 1_500


async def test_an_absent_broker_is_the_same_one_line_as_everywhere(site: Site, tmp_path: Path) -> None:
    """aiokafka used to print its own line before ours, which held a raw tuple."""
    file = tmp_path / "given.csv"
    file.write_text("time,flow\n1,2\n")
    done = await site.run("replay", str(file), kafka_bootstrap="127.0.0.1:1")
    assert done.returncode == 1
    assert done.stderr == "farshore: no Kafka broker answers at 127.0.0.1:1\n"


async def test_wrong_usage_exits_with_2(site: Site, tmp_path: Path) -> None:
    wrong = (["--timezone", "Mars/Olympus"], ["--delimiter", ";;"], ["--rate", "0"], ["--sped", "1"])
    file = str(tmp_path / "x.csv")
    for done in await asyncio.gather(*(site.run("replay", file, *arguments) for arguments in wrong)):
        assert done.returncode == 2, done.args
        assert "Traceback" not in done.stderr
