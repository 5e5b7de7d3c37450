"""A worker's app needs no folder: it must start where it may not write, as in a read-only container."""

from pathlib import Path

import pytest

from farshore.agents.faust_app import make_app
from farshore.agents.settings import load_settings


async def test_a_worker_makes_no_folder_where_it_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    app = make_app(load_settings(site="north"), group="any-group", outputs=())
    await app.on_first_start()
    assert not list(tmp_path.iterdir())
