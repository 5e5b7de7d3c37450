"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["ConfigOption"]

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="A TOML file with settings; FARSHORE_… in the environment wins."),
]
