"""Public recordings through the whole pipeline: what is read from `scored` is what an offline run gives.

The SKAB files stay outside the repository, in `data/skab` of `../shared` or of the folder that
TEST_DATA_FOLDER names.
"""

from __future__ import annotations

import csv
import os
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from farshore.local.sample import write_sample_package

from ..conftest import SharedBroker
from ..site import Site, open_site, values_of

pytestmark = pytest.mark.broker

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("TEST_DATA_FOLDER", ROOT.parent / "shared")) / "data" / "skab"
FILES = ("valve1/0.csv", "valve2/2.csv", "other/13.csv", "anomaly-free/anomaly-free.csv")
TRAIN_ROWS = 400
LABELS = {"anomaly", "changepoint"}

needs_data = pytest.mark.skipif(
    not DATA.is_dir(),
    reason=f"the SKAB recordings are not in {DATA}; see TEST_DATA_FOLDER",
)


class Recording:
    """One file as numbers: `rows` is (n, 8) float64, `times_ms` epoch milliseconds of times taken for UTC."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open(newline="") as file:
            reader = csv.reader(file, delimiter=";")
            header = next(reader)
            lines = list(reader)
        self.sensors = [name for name in header[1:] if name not in LABELS]
        self.rows = np.array(
            [[float(line[header.index(name)]) for name in self.sensors] for line in lines], np.float64
        )
        self.times_ms = [
            int(datetime.fromisoformat(line[0]).replace(tzinfo=UTC).timestamp() * 1000) for line in lines
        ]
        self.device = "-".join(path.relative_to(DATA).with_suffix("").parts)


@pytest.fixture(scope="module")
def recordings() -> list[Recording]:
    return [Recording(DATA / name) for name in FILES]


@pytest.fixture(scope="module")
def water_package(recordings: list[Recording], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package made for these files: fitted on the first rows of each, without labels."""
    rows = np.concatenate([recording.rows[:TRAIN_ROWS] for recording in recordings])
    folder = tmp_path_factory.mktemp("skab") / "package"
    return write_sample_package(folder, rows, recordings[0].sensors, name="skab-pca", version="1")


def offline_scores(package: Path, recording: Recording) -> list[float]:
    """The model over the whole file at once, one thread, without any of our code."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        package / "model.onnx", options, providers=["CPUExecutionProvider"]
    )
    (scores,) = session.run(["score"], {"x": recording.rows.astype(np.float32)})
    return scores.reshape(-1).astype(np.float64).tolist()


async def replay_and_score(site: Site, recordings: list[Recording]) -> dict[str, list[tuple[int, float]]]:
    for recording in recordings:
        done = await site.run(
            "replay", str(recording.path), "--time", "datetime", "--device-name", recording.device
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"{len(recording.rows)} events acknowledged")
    worker = await site.start("score")
    await site.scored()
    await worker.stop()
    found: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for value in values_of(await site.records(site.settings.topic_scored)):
        found[value["device"]].append((value["time"], value["score"]))
    assert not await site.records(site.settings.topic_dead_letters)
    return found


@needs_data
@pytest.mark.parametrize("batch_rows_max", [1, 7, 2_000])
async def test_scores_of_real_recordings_equal_an_offline_run_bit_for_bit(
    batch_rows_max: int,
    broker: SharedBroker,
    topic_prefix: str,
    tmp_path: Path,
    water_package: Path,
    recordings: list[Recording],
) -> None:
    chosen = recordings if batch_rows_max == 2_000 else recordings[:3]
    more = {"batch_rows_max": str(batch_rows_max)}
    async with open_site(broker.bootstrap, topic_prefix, tmp_path, water_package, **more) as site:
        found = await replay_and_score(site, chosen)
    for recording in chosen:
        # Every row, in order, none missing and none twice; floats compare by value, so bit for bit.
        expected = list(zip(recording.times_ms, offline_scores(water_package, recording), strict=True))
        assert found[recording.device] == expected, recording.path
