"""Every way to a hub, with the real SDK over real sockets: transports, proxy, authorities, credentials."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from farshore.agents.errors import SettingsError, UplinkConfigError
from farshore.agents.settings import PREFIX, load_settings
from farshore.agents.uplink import EventHubUplink
from farshore.agents.uplink_errors import UplinkLostError
from farshore.local.eventhubs import EventHubsStandIn
from farshore.local.eventhubs.websocket import WebSocketDoor

from ..site import stored_in, until
from .hub_clients import CONNECTION, LIMITS, SECRET, access_of, certificate, send, send_on


def bodies(hub: EventHubsStandIn) -> list[bytes]:
    return [body for _, body in stored_in(hub)]


class Proxy:
    """An HTTP proxy that knows CONNECT, and asks for a password."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.port = 0
        self.wanted = base64.b64encode(b"us er:pass").decode()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.asked.append(head.splitlines()[0])
        if f"Basic {self.wanted}" not in head:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            writer.close()
            return
        host, _, port = head.split()[1].rpartition(":")
        there = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await asyncio.gather(pump(reader, there[1]), pump(there[0], writer))


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    writer.close()


@asynccontextmanager
async def open_proxy() -> AsyncIterator[Proxy]:
    proxy = Proxy()
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()


async def test_amqp_over_tls_with_an_authority_of_the_site(
    secure_hub: EventHubsStandIn, ca_file: Path
) -> None:
    endpoint = f"localhost:{secure_hub.port}"
    access = access_of(
        eventhub_connection_string=CONNECTION, eventhub_endpoint=endpoint, eventhub_ca_file=ca_file
    )
    await send(access, b"over tls")
    assert bodies(secure_hub) == [b"over tls"]


@pytest.mark.parametrize("wrong", ["authority", "name"])
async def test_a_wrong_certificate_is_a_lost_link_and_nothing_is_sent(
    authority: trustme.CA, ca_file: Path, wrong: str
) -> None:
    context = (
        certificate(trustme.CA()) if wrong == "authority" else certificate(authority, "elsewhere.example")
    )
    async with EventHubsStandIn(hub="anomalies", partitions=1, tls=context) as hub:
        access = access_of(
            eventhub_connection_string=CONNECTION,
            eventhub_endpoint=f"localhost:{hub.port}",
            eventhub_ca_file=ca_file,
        )
        with pytest.raises(UplinkLostError, match=r"(?i)certificate") as lost:
            await send(access)
        assert SECRET not in str(lost.value)
        assert hub.stats().events == 0
        assert not hub.tokens


async def test_websockets_with_and_without_tls(
    hub: EventHubsStandIn, authority: trustme.CA, ca_file: Path
) -> None:
    async with WebSocketDoor(hub) as plain, WebSocketDoor(hub, certificate(authority)) as secure:
        await send(
            access_of(
                eventhub_connection_string=CONNECTION + ";UseDevelopmentEmulator=true",
                eventhub_endpoint=f"localhost:{plain.port}",
                eventhub_transport="websocket",
            ),
            b"ws",
        )
        await send(
            access_of(
                eventhub_connection_string=CONNECTION,
                eventhub_endpoint=f"localhost:{secure.port}",
                eventhub_transport="websocket",
                eventhub_ca_file=ca_file,
            ),
            b"wss",
        )
        assert bodies(hub) == [b"ws", b"wss"]
        assert plain.accepted > 0
        assert secure.accepted > 0


async def test_behind_an_http_proxy_the_hub_is_reached_through_it_alone(
    hub: EventHubsStandIn, authority: trustme.CA, ca_file: Path
) -> None:
    async with WebSocketDoor(hub, certificate(authority)) as door, open_proxy() as proxy:
        values = {
            "eventhub_connection_string": CONNECTION,
            "eventhub_endpoint": f"localhost:{door.port}",
            "eventhub_transport": "websocket",
            "eventhub_ca_file": ca_file,
        }
        access = access_of(**values, eventhub_proxy=f"http://us%20er:pass@127.0.0.1:{proxy.port}")
        # Behind a proxy the site's own name servers need not know the hub.
        assert access.addresses == (("127.0.0.1", proxy.port),)
        await send(access, b"by proxy")
        assert bodies(hub) == [b"by proxy"]
        assert set(proxy.asked) == {f"CONNECT localhost:{door.port} HTTP/1.1"}
        refused = access_of(**values, eventhub_proxy=f"http://us:{SECRET}@127.0.0.1:{proxy.port}")
        with pytest.raises(UplinkLostError) as lost:
            await send(refused)
        assert SECRET not in str(lost.value)


async def test_a_connection_string_in_a_file_is_read_again_when_it_changes(
    hub: EventHubsStandIn, tmp_path: Path
) -> None:
    file = tmp_path / "connection"
    file.write_text(hub.connection_string.replace("RootManageSharedAccessKey", "first") + "\n")
    uplink = EventHubUplink(access_of(eventhub_connection_string_file=file), LIMITS)
    await send_on(uplink, b"1")
    assert all("skn=first" in token.text for token in hub.tokens)
    file.write_text(hub.connection_string.replace("RootManageSharedAccessKey", "second") + "\n")

    async def changed() -> bool:
        await send_on(uplink, b"2")
        return "skn=second" in hub.tokens[-1].text

    await until(changed, "the new key in use", 30)
    # A file that is being replaced is no reason to let go of a link that works.
    file.unlink()
    for _ in range(4):
        await send_on(uplink, b"3")
        await asyncio.sleep(0.7)
    await uplink.discard()
    with pytest.raises(UplinkLostError, match="cannot be read"):
        await send_on(uplink, b"4")
    file.write_text(hub.connection_string)
    await send_on(uplink, b"5")
    await uplink.close()


async def test_a_sas_token_in_a_file_is_shown_as_it_is_and_read_again_when_it_changes(
    secure_hub: EventHubsStandIn, ca_file: Path, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    tokens = [f"SharedAccessSignature sr=x&sig={name}&se={int(time.time()) + 3600}&skn=k" for name in "ab"]
    file.write_text(tokens[0])
    access = access_of(
        eventhub_namespace="localhost",
        eventhub_name="anomalies",
        eventhub_sas_token_file=file,
        eventhub_endpoint=f"localhost:{secure_hub.port}",
        eventhub_ca_file=ca_file,
    )
    uplink = EventHubUplink(access, LIMITS)
    await send_on(uplink, b"1")
    assert {token.text for token in secure_hub.tokens} == {tokens[0]}
    file.write_text(tokens[1])

    async def changed() -> bool:
        await send_on(uplink, b"2")
        return secure_hub.tokens[-1].text == tokens[1]

    await until(changed, "the new token in use", 30)
    await uplink.close()


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, "EVENTHUB_CONNECTION_STRING is not set; the bridge needs it, or one of"),
        (
            {"eventhub_connection_string": CONNECTION, "eventhub_credential": "managed-identity"},
            "EVENTHUB_CONNECTION_STRING and FARSHORE_EVENTHUB_CREDENTIAL are set; give one of them",
        ),
        ({"eventhub_connection_string_file": "/nowhere"}, "/nowhere cannot be read: No such file"),
        ({"eventhub_sas_token_file": "/nowhere"}, "needs FARSHORE_EVENTHUB_NAMESPACE"),
        (
            {"eventhub_sas_token_file": "{secret}", "eventhub_namespace": "n", "eventhub_name": "h"},
            "holds no token: expected SharedAccessSignature",
        ),
        ({"eventhub_connection_string_file": "{secret}"}, "EVENTHUB_CONNECTION_STRING_FILE is not usable"),
        (
            {"eventhub_connection_string": CONNECTION, "eventhub_proxy": f"http://u:{SECRET}@p:3128"},
            "an HTTP proxy carries WebSockets only; set FARSHORE_EVENTHUB_TRANSPORT=websocket",
        ),
        (
            {"eventhub_connection_string": CONNECTION, "eventhub_ca_file": "{secret}"},
            "EVENTHUB_CA_FILE .* is not usable: .*; expected certificates in PEM",
        ),
        (
            {
                "eventhub_credential": "service-principal",
                "eventhub_namespace": "n",
                "eventhub_name": "h",
                "eventhub_client_secret_file": "{secret}",
            },
            "needs FARSHORE_EVENTHUB_TENANT_ID, FARSHORE_EVENTHUB_CLIENT_ID and",
        ),
        (
            {"eventhub_credential": "workload-identity", "eventhub_namespace": "n", "eventhub_name": "h"},
            "EVENTHUB_CREDENTIAL=workload-identity is not usable",
        ),
    ],
)
def test_what_does_not_go_together_is_told_in_one_line_without_a_secret(
    values: dict[str, str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "file"
    file.write_text(SECRET)
    given = {name: str(file) if value == "{secret}" else value for name, value in values.items()}
    with pytest.raises(UplinkConfigError, match=told) as refused:
        access_of(**given)
    assert SECRET not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("EVENTHUB_PROXY", f"socks5://u:{SECRET}@p:1080", "no proxy's address"),
        ("EVENTHUB_PROXY", f"http://u:{SECRET}@p", "no proxy's address"),
        ("EVENTHUB_ENDPOINT", "sb://x.example", "without sb://"),
        ("EVENTHUB_NAMESPACE", "https://x.example/", "without sb://"),
        ("EVENTHUB_TRANSPORT", "http", "amqp|websocket"),
        ("EVENTHUB_CREDENTIAL", "password", "managed-identity"),
    ],
)
def test_a_wrong_setting_of_the_hub_is_told_without_a_secret(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    monkeypatch.setenv(PREFIX + name, value)
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert f"{PREFIX}{name}" in str(refused.value)
    assert told in str(refused.value)
    assert SECRET not in str(refused.value)
