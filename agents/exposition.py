"""The worker's metrics over HTTP, for Prometheus to scrape."""

import errno
from typing import Final

from prometheus_client import CollectorRegistry, start_http_server

from .errors import SettingsError
from .metrics import WORKER_REGISTRY
from .settings import PREFIX

__all__ = ["serve_metrics"]

_PORT_SETTING: Final = PREFIX + "METRICS_PORT"
_HOST_SETTING: Final = PREFIX + "METRICS_HOST"


def serve_metrics(host: str, port: int, registry: CollectorRegistry = WORKER_REGISTRY) -> int:
    """Serve `registry` at `/metrics` from a thread of its own until the process ends; port 0 picks one.

    Returns the port in use; raises SettingsError when it cannot be had.
    """
    try:
        server, _ = start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise SettingsError(_sentence(host, port, error)) from None
    return int(server.server_port)


def _sentence(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"{_PORT_SETTING}: port {port} on {host} is in use; give another one, or 0 for any free one"
    if error.errno == errno.EACCES:
        return f"{_PORT_SETTING}: port {port} needs rights this process has not; give one from 1024 up"
    return f"{_HOST_SETTING}: cannot listen on {host!r}, port {port}: {error.strerror or error}"
