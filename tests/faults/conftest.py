"""The site of a fault test."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ..site import Site, make_package, open_site


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample model."""
    return make_package(tmp_path_factory.mktemp("package") / "sample")


@pytest.fixture
async def site(broker: Any, topic_prefix: str, tmp_path: Path, package: Path) -> AsyncIterator[Site]:
    """A site with its topics made and no worker yet."""
    async with open_site(broker.bootstrap, topic_prefix, tmp_path, package) as opened:
        yield opened


@pytest.fixture
def seed() -> int:
    """A seed for this run; printed, and shown when the test fails. FAULT_SEED sets it."""
    chosen = int(os.environ.get("FAULT_SEED", random.SystemRandom().randrange(2**32)))
    sys.stdout.write(f"FAULT_SEED={chosen}\n")
    return chosen
