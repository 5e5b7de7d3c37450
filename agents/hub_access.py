"""Where the hub is and how it is asked: transport, proxy, authorities, and one of five kinds of credentials.

Guarantees: what does not go together is refused at start in one line that says what would; a secret is in no
message and no representation; a secret that stands in a file is read anew for every client, and `has_changed`
tells when the file holds another one, so that a rotation needs no restart.
"""

import ssl
from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from typing import Any, Final, Protocol
from urllib.parse import unquote, urlsplit

from azure.core.credentials import AzureSasCredential
from azure.eventhub import TransportType
from azure.eventhub.aio import EventHubProducerClient

from .entra import EntraCredential
from .errors import UplinkConfigError
from .settings import PREFIX, Settings

__all__ = ["HubAccess", "connection_string_access", "hub_access"]

_KEEP_ALIVE_SECONDS: Final = 30
_LOOK_SECONDS: Final = 2.0
"""Between two looks at the files that secrets stand in."""

_AMQPS_PORT: Final = 5671
_HTTPS_PORT: Final = 443
_NO_RETRIES: Final[Mapping[str, Any]] = {  # options of the SDK
    "retry_total": 0,
    "retry_mode": "fixed",
    "retry_backoff_factor": 0.05,
    "retry_backoff_max": 1,
    "keep_alive": _KEEP_ALIVE_SECONDS,
}


class _Credentials(Protocol):
    """Makes a client; `options` are those of transport and retries."""

    def client(
        self, kind: type[EventHubProducerClient], options: Mapping[str, Any]
    ) -> EventHubProducerClient:
        """A new client with the secret as it is now; raises UplinkConfigError."""

    @property
    def host(self) -> str:
        """The namespace's host name, with a port where it has one."""

    @property
    def authority(self) -> str | None:
        """The URL that credentials are fetched from, if any."""

    def has_changed(self) -> bool:
        """Whether a file has another secret than the last client."""

    async def close(self) -> None:
        """Let go of connections."""


class HubAccess:
    """Makes clients of one hub."""

    def __init__(
        self, credentials: _Credentials, options: Mapping[str, Any], endpoint: str | None, proxy: str | None
    ) -> None:
        self._credentials = credentials
        self._options = options
        self._endpoint = endpoint
        self._proxy = proxy
        self._looked_at = monotonic()
        self._changed = False

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """Hosts and ports whose names have to be known to connect: the proxy's alone where there is one."""
        if self._proxy is not None:
            return (_address(self._proxy, _HTTPS_PORT),)
        own = _address("sb://" + (self._endpoint or self._credentials.host), _AMQPS_PORT)
        authority = self._credentials.authority
        return (own,) if authority is None else (own, _address(authority, _HTTPS_PORT))

    def new_client(self, kind: type[EventHubProducerClient]) -> EventHubProducerClient:
        """A client that has not connected yet; raises UplinkConfigError."""
        self._changed = False
        return self._credentials.client(kind, self._options)

    def has_changed(self) -> bool:
        """Whether a secret's file holds another one; looks every two seconds at most."""
        now = monotonic()
        if not self._changed and now - self._looked_at >= _LOOK_SECONDS:
            self._looked_at = now
            self._changed = self._credentials.has_changed()
        return self._changed

    async def close(self) -> None:
        """Let go of what credentials hold open."""
        await self._credentials.close()


def hub_access(settings: Settings) -> HubAccess:
    """The access that `settings` ask for; raises UplinkConfigError when they do not say one way clearly."""
    proxy = settings.eventhub_proxy.get_secret_value() if settings.eventhub_proxy is not None else None
    options = {**_NO_RETRIES, **_transport_options(settings, proxy)}
    access = HubAccess(_credentials(settings, proxy), options, settings.eventhub_endpoint, proxy)
    access.new_client(EventHubProducerClient)  # a wrong secret is a user's mistake and shows at the start
    return access


def connection_string_access(connection_string: str, hub: str | None = None) -> HubAccess:
    """Access by connection string alone, as with a local hub."""
    options = {**_NO_RETRIES, "ssl_context": _trusted(None)}
    access = HubAccess(_ConnectionString(connection_string, hub), options, None, None)
    access.new_client(EventHubProducerClient)
    return access


def _transport_options(settings: Settings, proxy: str | None) -> dict[str, Any]:
    websocket = settings.eventhub_transport == "websocket"
    if proxy is not None and not websocket:
        raise UplinkConfigError(
            f"{PREFIX}EVENTHUB_PROXY: an HTTP proxy carries WebSockets only; "
            f"set {PREFIX}EVENTHUB_TRANSPORT=websocket"
        )
    options: dict[str, Any] = {
        "transport_type": TransportType.AmqpOverWebsocket if websocket else TransportType.Amqp
    }
    if proxy is not None:
        options["http_proxy"] = _proxy_options(proxy)
    if settings.eventhub_endpoint is not None:
        options["custom_endpoint_address"] = "sb://" + settings.eventhub_endpoint
    options["ssl_context"] = _trusted(settings.eventhub_ca_file)
    return options


def _proxy_options(proxy: str) -> dict[str, Any]:
    parts = urlsplit(proxy)
    # The async client takes the host as a URL, unlike its documentation.
    options: dict[str, Any] = {
        "proxy_hostname": f"{parts.scheme}://{parts.hostname}",
        "proxy_port": parts.port,
    }
    if parts.username:
        options["username"] = unquote(parts.username)
        options["password"] = unquote(parts.password or "")
    return options


def _trusted(ca_file: Path | None) -> ssl.SSLContext:
    """The authorities to trust, read once: left to itself the SDK reads all of them for each connection, and
    a long outage is mostly that."""
    context = ssl.create_default_context()
    if ca_file is None:
        return context
    try:
        context.load_verify_locations(ca_file)
    except (OSError, ssl.SSLError) as error:
        raise UplinkConfigError(
            f"{PREFIX}EVENTHUB_CA_FILE {ca_file} is not usable: {error.strerror or error}; "
            "expected certificates in PEM"
        ) from None
    return context


def _credentials(settings: Settings, proxy: str | None) -> _Credentials:
    text, file = settings.eventhub_connection_string, settings.eventhub_connection_string_file
    token_file, kind = settings.eventhub_sas_token_file, settings.eventhub_credential
    given = {
        "EVENTHUB_CONNECTION_STRING": text is not None,
        "EVENTHUB_CONNECTION_STRING_FILE": file is not None,
        "EVENTHUB_SAS_TOKEN_FILE": token_file is not None,
        "EVENTHUB_CREDENTIAL": kind is not None,
    }
    ways = [PREFIX + name for name, is_given in given.items() if is_given]
    if not ways:
        first, *others = (PREFIX + name for name in given)
        raise UplinkConfigError(f"{first} is not set; the bridge needs it, or one of {', '.join(others)}")
    if len(ways) > 1:
        raise UplinkConfigError(f"{' and '.join(ways)} are set; give one of them")
    if text is not None:
        return _ConnectionString(text.get_secret_value(), settings.eventhub_name)
    if file is not None:
        return _ConnectionString(None, settings.eventhub_name, file)
    if settings.eventhub_namespace is None or settings.eventhub_name is None:
        raise UplinkConfigError(
            f"{ways[0]} needs {PREFIX}EVENTHUB_NAMESPACE (<name>.servicebus.windows.net) "
            f"and {PREFIX}EVENTHUB_NAME (the hub)"
        )
    if token_file is not None:
        return _SasTokenFile(token_file, settings.eventhub_namespace, settings.eventhub_name)
    return EntraCredential(settings, settings.eventhub_namespace, settings.eventhub_name, proxy)


class _ConnectionString:
    """Given as a setting, or in a file."""

    authority = None

    def __init__(self, text: str | None, hub: str | None, file: Path | None = None) -> None:
        self._hub = hub
        self._file = file
        self._text = text if file is None else _read_secret(file, "EVENTHUB_CONNECTION_STRING_FILE")

    def client(
        self, kind: type[EventHubProducerClient], options: Mapping[str, Any]
    ) -> EventHubProducerClient:
        if self._file is not None:
            self._text = _read_secret(self._file, "EVENTHUB_CONNECTION_STRING_FILE")
        name = "EVENTHUB_CONNECTION_STRING" + ("" if self._file is None else "_FILE")
        try:
            return kind.from_connection_string(self._text, eventhub_name=self._hub, **options)
        except (ValueError, KeyError, TypeError):
            # The SDK's message may quote the string, which holds a secret.
            raise UplinkConfigError(
                f"{PREFIX}{name} is not usable: expected "
                "Endpoint=sb://…;SharedAccessKeyName=…;SharedAccessKey=…;EntityPath=<hub>, "
                f"or the hub's name in {PREFIX}EVENTHUB_NAME"
            ) from None

    @property
    def host(self) -> str:
        parts = dict(part.partition("=")[::2] for part in (self._text or "").split(";"))
        return urlsplit(parts.get("Endpoint", "")).netloc

    def has_changed(self) -> bool:
        return self._file is not None and _has_changed(self._file, self._text)

    async def close(self) -> None:
        pass


class _SasTokenFile:
    """A token that somebody else makes and renews, in a file."""

    authority = None

    def __init__(self, file: Path, namespace: str, hub: str) -> None:
        self._file = file
        self.host = namespace
        self._hub = hub
        self._token = _read_secret(file, "EVENTHUB_SAS_TOKEN_FILE")

    def client(
        self, kind: type[EventHubProducerClient], options: Mapping[str, Any]
    ) -> EventHubProducerClient:
        self._token = _read_secret(self._file, "EVENTHUB_SAS_TOKEN_FILE")
        if not (self._token.startswith("SharedAccessSignature ") and "&se=" in self._token):
            raise UplinkConfigError(
                f"{PREFIX}EVENTHUB_SAS_TOKEN_FILE {self._file} holds no token: expected "
                "SharedAccessSignature sr=…&sig=…&se=…&skn=…"
            )
        return kind(self.host, self._hub, AzureSasCredential(self._token), **options)

    def has_changed(self) -> bool:
        return _has_changed(self._file, self._token)

    async def close(self) -> None:
        pass


def _read_secret(file: Path, setting: str) -> str:
    try:
        text = file.read_text("utf-8").strip()
    except OSError as error:
        raise UplinkConfigError(f"{PREFIX}{setting} {file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UplinkConfigError(f"{PREFIX}{setting} {file} is no text") from None
    if not text:
        raise UplinkConfigError(f"{PREFIX}{setting} {file} is empty")
    return text


def _has_changed(file: Path, known: str | None) -> bool:
    try:
        return file.read_text("utf-8").strip() not in ("", known)
    except (OSError, UnicodeDecodeError):
        return False  # in the middle of being replaced; the client in use goes on


def _address(url: str, default_port: int) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or default_port
