"""Logging for workers: one line a change of state, to stderr.

aiokafka and Faust report each failed attempt and each step of a rebalance; what a person needs of that,
farshore's own loggers say once. With `debug` everything is shown.
"""

import logging
import sys
from typing import Final

__all__ = ["quiet_libraries", "set_up_logging"]

_FORMAT: Final = "%(asctime)s %(levelname)-7s %(name)s  %(message)s"
_QUIET: Final = ("aiokafka", "faust", "mode", "azure", "uamqp", "asyncio")


def set_up_logging(level: str) -> None:
    """Send records of at least `level` to stderr; libraries only speak when something is fatal."""
    logging.basicConfig(stream=sys.stderr, level=level.upper(), format=_FORMAT, force=True)
    if level != "debug":
        quiet_libraries()


def quiet_libraries() -> None:
    """Nothing of libraries' own below fatal: without a handler Python prints their errors beside our line."""
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.CRITICAL)
