"""The site of an integration test, and one run of the whole pipeline that many tests look at."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ..site import Site, make_package, open_site
from .pipeline_run import PipelineRun, run_pipeline


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample model."""
    return make_package(tmp_path_factory.mktemp("package") / "sample")


@pytest.fixture
async def site(broker: Any, topic_prefix: str, tmp_path: Path, package: Path) -> AsyncIterator[Site]:
    """A site with its topics made and no worker yet."""
    async with open_site(broker.bootstrap, topic_prefix, tmp_path, package) as opened:
        yield opened


@pytest.fixture(scope="package")
def pipeline_run(broker: Any, tmp_path_factory: pytest.TempPathFactory, package: Path) -> PipelineRun:
    """Good and bad events through a scorer and a bridge, to the end; what was found everywhere."""
    prefix = f"pipeline.{uuid.uuid4().hex[:8]}."
    return asyncio.run(run_pipeline(broker.bootstrap, prefix, tmp_path_factory.mktemp("pipeline"), package))
