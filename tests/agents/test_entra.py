"""Azure AD as a way to a hub, against a local login."""

from __future__ import annotations

import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web

from farshore.agents.errors import UplinkConfigError
from farshore.agents.hub_access import HubAccess
from farshore.agents.uplink import EventHubUplink
from farshore.agents.uplink_errors import UplinkLostError
from farshore.local.eventhubs import EventHubsStandIn

from ..site import until
from .hub_clients import CONNECTION, LIMITS, access_of, certificate, send, send_on


class Login:
    """A login as Azure AD has it: a token for a secret."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        application = web.Application()
        application.router.add_post("/{tenant}/oauth2/v2.0/token", self.serve)
        self.runner = web.AppRunner(application, access_log=None)

    async def serve(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.asked.append(form | {"tenant": request.match_info["tenant"]})
        token = "token-for-" + (form.get("client_secret") or form["client_assertion"])
        return web.json_response({"access_token": token, "expires_in": 3600, "token_type": "Bearer"})


@asynccontextmanager
async def open_login(context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Login]:
    login = Login()
    await login.runner.setup()
    await web.TCPSite(login.runner, "127.0.0.1", 0, ssl_context=context).start()
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", f"https://localhost:{login.runner.addresses[0][1]}")
    try:
        yield login
    finally:
        await login.runner.cleanup()


def entra(hub: EventHubsStandIn, ca_file: Path, kind: str, **values: Any) -> HubAccess:
    return access_of(
        eventhub_credential=kind,
        eventhub_namespace="localhost",
        eventhub_name="anomalies",
        eventhub_tenant_id="the-tenant",
        eventhub_client_id="the-application",
        eventhub_endpoint=f"localhost:{hub.port}",
        eventhub_ca_file=ca_file,
        **values,
    )


async def test_a_service_principal_logs_in_and_again_when_its_secret_changes(
    secure_hub: EventHubsStandIn,
    authority: trustme.CA,
    ca_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "secret"
    file.write_text("first")
    async with open_login(certificate(authority), monkeypatch) as login:
        access = entra(secure_hub, ca_file, "service-principal", eventhub_client_secret_file=file)
        uplink = EventHubUplink(access, LIMITS)
        await send_on(uplink, b"1")
        assert {(token.kind, token.text) for token in secure_hub.tokens} == {("jwt", "token-for-first")}
        assert len(login.asked) == 1  # the library keeps the token
        assert login.asked[0]["tenant"] == "the-tenant"
        assert login.asked[0]["scope"] == "https://eventhubs.azure.net//.default"
        file.write_text("second")

        async def changed() -> bool:
            await send_on(uplink, b"2")
            return secure_hub.tokens[-1].text == "token-for-second"

        await until(changed, "the new secret in use", 30)
        await uplink.close()


async def test_a_workload_identity_shows_the_clusters_token(
    secure_hub: EventHubsStandIn,
    authority: trustme.CA,
    ca_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "projected"
    file.write_text("of-the-cluster")
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(file))
    async with open_login(certificate(authority), monkeypatch):
        await send(entra(secure_hub, ca_file, "workload-identity"))
    assert {(token.kind, token.text) for token in secure_hub.tokens} == {("jwt", "token-for-of-the-cluster")}


class Machine:
    """What a machine in Azure offers its own programs: a token for nothing but being there.

    It speaks the form of App Service, with a header that proves who asks, and that of a virtual machine.
    """

    HEADER = "known-on-this-machine-alone"

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        application = web.Application()
        application.router.add_get("/msi/token", self.as_app_service)
        application.router.add_get("/metadata/identity/oauth2/token", self.as_virtual_machine)
        self.runner = web.AppRunner(application, access_log=None)

    async def as_app_service(self, request: web.Request) -> web.Response:
        if request.headers.get("X-IDENTITY-HEADER") != self.HEADER:
            return web.json_response({"message": "who asks?"}, status=401)
        return self._token(request, "app-service")

    async def as_virtual_machine(self, request: web.Request) -> web.Response:
        if request.headers.get("Metadata") != "true":
            return web.json_response({"error": "invalid_request"}, status=400)
        return self._token(request, "virtual-machine")

    def _token(self, request: web.Request, form: str) -> web.Response:
        self.asked.append(dict(request.query))
        return web.json_response(
            {
                "access_token": f"token-of-{form}",
                "expires_on": str(int(time.time()) + 86_400),
                "expires_in": "86400",
                "resource": request.query["resource"],
                "token_type": "Bearer",
            }
        )


@asynccontextmanager
async def open_machine() -> AsyncIterator[tuple[Machine, str]]:
    machine = Machine()
    await machine.runner.setup()
    await web.TCPSite(machine.runner, "127.0.0.1", 0).start()
    try:
        yield machine, f"http://127.0.0.1:{machine.runner.addresses[0][1]}"
    finally:
        await machine.runner.cleanup()


@pytest.mark.parametrize("form", ["app-service", "virtual-machine"])
async def test_a_managed_identity_asks_its_machine_and_needs_no_secret(
    secure_hub: EventHubsStandIn, ca_file: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    async with open_machine() as (machine, address):
        if form == "app-service":
            monkeypatch.setenv("IDENTITY_ENDPOINT", f"{address}/msi/token")
            monkeypatch.setenv("IDENTITY_HEADER", Machine.HEADER)
        else:
            monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", address)
        uplink = EventHubUplink(entra(secure_hub, ca_file, "managed-identity"), LIMITS)
        await send_on(uplink, b"1")
        await uplink.discard()
        await send_on(uplink, b"2")
        await uplink.close()
    assert {(token.kind, token.text) for token in secure_hub.tokens} == {("jwt", f"token-of-{form}")}
    # The library keeps the token over connections; of several identities of the machine ours is asked for.
    assert len(machine.asked) == 1
    assert machine.asked[0]["client_id"] == "the-application"
    assert machine.asked[0]["resource"].startswith("https://eventhubs.azure.net")


async def test_a_machine_without_an_identity_is_a_lost_attempt_and_not_the_end(
    secure_hub: EventHubsStandIn, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the identity is assigned only later: the uplink is tried again, by the breaker."""
    async with open_machine() as (machine, address):
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{address}/msi/token")
        monkeypatch.setenv("IDENTITY_HEADER", "of another machine")
        uplink = EventHubUplink(entra(secure_hub, ca_file, "managed-identity"), LIMITS)
        with pytest.raises(UplinkLostError):
            await send_on(uplink, b"1")
        await uplink.close()
    assert machine.asked == []
    assert secure_hub.stats().events == 0


def test_azure_ad_without_its_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "azure.identity", None)
    with pytest.raises(UplinkConfigError, match=r"install farshore\[cloud\]"):
        access_of(eventhub_credential="managed-identity", eventhub_namespace="n", eventhub_name="h")


def test_azure_ads_library_is_not_imported_for_keys() -> None:
    code = (
        "import sys; from farshore.agents.hub_access import connection_string_access as access;"
        f"access({CONNECTION!r}); sys.exit('azure.identity' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
