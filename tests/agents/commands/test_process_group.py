"""Several processes under one parent: what is refused before any of them is started."""

from __future__ import annotations

import pytest

from farshore.agents.commands.process_group import run_processes
from farshore.agents.errors import SettingsError
from farshore.agents.settings import Settings


def test_ports_beyond_the_last_one_are_refused_by_name_before_any_process_is_started() -> None:
    with pytest.raises(SettingsError, match=r"^FARSHORE_METRICS_PORT: 4 processes .* up to 65532, or 0"):
        run_processes(Settings(metrics_port=65_533), None, 4)
