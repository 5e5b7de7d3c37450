"""What is said of the error that ends a worker."""

from __future__ import annotations

import pytest
from aiokafka.errors import KafkaError

from farshore.agents.faust_app import make_app
from farshore.agents.settings import Settings


@pytest.mark.parametrize(
    ("cause", "traced"), [(None, False), (OSError("reset"), False), (RuntimeError("a fault of ours"), True)]
)
async def test_an_error_of_kafkas_is_one_line_unless_a_fault_of_ours_is_behind_it(
    caplog: pytest.LogCaptureFixture, cause: Exception | None, traced: bool
) -> None:
    """A client's word for whatever it did not expect hid what had happened."""
    error = KafkaError("Unexpected error during data retrieval")
    error.__cause__ = cause
    app = make_app(Settings(), group="nobody", outputs=())
    app.stop_on_error(error)
    assert app.fatal is error
    assert app.ended.is_set()
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert bool(record.exc_info) is traced
