"""The worker's metrics over HTTP, for Prometheus to scrape, and its health, for whoever supervises it.

It answers from threads of its own, also while the worker's loop is held. `/healthz` and `/readyz` are 200 or
503 with a small JSON body that says why; every other path is the metrics.
"""

import errno
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Final
from wsgiref.simple_server import WSGIRequestHandler, make_server
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from ..streams.scoring.codec import encode
from .errors import SettingsError
from .health import Health, Report
from .metrics import WORKER_REGISTRY
from .settings import PREFIX

__all__ = ["HEALTH_PATH", "READY_PATH", "serve_metrics"]

HEALTH_PATH: Final = "/healthz"
READY_PATH: Final = "/readyz"

_PORT_SETTING: Final = PREFIX + "METRICS_PORT"
_HOST_SETTING: Final = PREFIX + "METRICS_HOST"


def serve_metrics(
    host: str,
    port: int,
    registry: CollectorRegistry = WORKER_REGISTRY,
    *,
    health: Health | None = None,
) -> int:
    """Serve `registry` at `/metrics`, and `health`, from threads until the process ends; port 0 picks one.

    Returns the port in use; raises SettingsError when it cannot be had.
    """
    pages = {} if health is None else {HEALTH_PATH: health.liveness, READY_PATH: health.readiness}
    # Not prometheus_client's own start: between it and a change of its application, health would be metrics.
    application = _with_pages(pages, make_wsgi_app(registry))
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]

        class Server(ThreadingWSGIServer):
            address_family = family

        server = make_server(str(address[0]), port, application, Server, handler_class=_SilentHandler)
    except OSError as error:
        raise SettingsError(_sentence(host, port, error)) from None
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return int(server.server_port)


class _SilentHandler(WSGIRequestHandler):
    """A scrape every few seconds is nothing to log."""

    def log_message(self, *_: object) -> None:
        pass


def _with_pages(pages: Mapping[str, Callable[[], Report]], others: WSGIApplication) -> WSGIApplication:
    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        page = pages.get(environ["PATH_INFO"])
        if page is None:
            return others(environ, start_response)
        report = page()
        status = "200 OK" if report.good else "503 Service Unavailable"
        start_response(status, [("Content-Type", "application/json"), ("Cache-Control", "no-store")])
        return [encode(report.body) + b"\n"]

    return answer


def _sentence(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"{_PORT_SETTING}: port {port} on {host} is in use; give another one, or 0 for any free one"
    if error.errno == errno.EACCES:
        return f"{_PORT_SETTING}: port {port} needs rights this process has not; give one from 1024 up"
    return f"{_HOST_SETTING}: cannot listen on {host!r}, port {port}: {error.strerror or error}"
