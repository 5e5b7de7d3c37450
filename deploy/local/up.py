"""`farshore up`: the whole site for development, until Ctrl-C. The broker's data stay in the given folder."""

import os
import signal
import time
from pathlib import Path
from typing import Final

import typer

from ..agents.settings import PREFIX
from .demo import fit_package
from .errors import BrokerFailedError
from .site import LocalSite, SiteSettings

__all__ = ["run_up"]

_LOOK_SECONDS: Final = 0.5


def run_up(*, folder: Path) -> int:
    """Run a site until a signal; a worker that ends by itself ends the site with its last lines."""
    folder = folder.absolute()
    given = os.environ.get(PREFIX + "MODEL")
    package = Path(given) if given else fit_package(folder / "sample-package")
    stopping = False

    def stop(_number: int, _frame: object) -> None:
        nonlocal stopping
        stopping = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    with LocalSite(
        SiteSettings(package, folder, site=os.environ.get(PREFIX + "SITE", "site")), typer.echo
    ) as site:
        settings = site.settings
        assert settings.eventhub_connection_string is not None
        typer.echo(f"FARSHORE_KAFKA_BOOTSTRAP={settings.kafka_bootstrap}")
        typer.echo(
            f"FARSHORE_EVENTHUB_CONNECTION_STRING={settings.eventhub_connection_string.get_secret_value()}"
        )
        for name, port in site.metrics_ports.items():
            typer.echo(f"metrics of {name}: http://127.0.0.1:{port}/metrics")
        typer.echo(f"events go to topic {settings.topic_events!r}; Ctrl-C ends the site")
        while not stopping:
            for name in ("score", "bridge", "hub"):
                if not site.running(name):
                    raise BrokerFailedError(f"{name} ended; its log ends with:\n{site.log_tail(name)}")
            time.sleep(_LOOK_SECONDS)
    return 0
