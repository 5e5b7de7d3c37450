"""Azure AD (Entra ID) as the hub's credentials, through `azure-identity`, which the extra [cloud] brings.

It is imported only when asked for. The library keeps and renews tokens; of a workload identity it reads the
token file anew by itself. A service principal's secret stands in a file that is looked at here.
"""

import os
from collections.abc import Mapping
from typing import Any, Final

from azure.eventhub.aio import EventHubProducerClient

from .errors import UplinkConfigError
from .settings import PREFIX, Settings

__all__ = ["EntraCredential"]

_AUTHORITY: Final = "login.microsoftonline.com"


class EntraCredential:
    """One of workload identity, managed identity, service principal."""

    def __init__(self, settings: Settings, namespace: str, hub: str, proxy: str | None) -> None:
        self._settings = settings
        self.host = namespace
        self._hub = hub
        self._proxy = proxy
        self._secret: str | None = None
        self._credential: Any = None  # azure-identity is optional, and so are its types
        self._retired: list[Any] = []

    @property
    def authority(self) -> str | None:
        """The login's URL; a managed identity asks an address of the machine itself."""
        if self._settings.eventhub_credential == "managed-identity":
            return None
        host = os.environ.get("AZURE_AUTHORITY_HOST", _AUTHORITY)
        return host if "://" in host else "https://" + host

    def client(
        self, kind: type[EventHubProducerClient], options: Mapping[str, Any]
    ) -> EventHubProducerClient:
        """A client; the credential with its tokens is kept for as long as its secret stays the same."""
        secret = self._read_secret()
        if self._credential is None or secret != self._secret:
            if self._credential is not None:
                self._retired.append(self._credential)
            self._credential, self._secret = self._new_credential(secret), secret
        return kind(self.host, self._hub, self._credential, **options)

    def has_changed(self) -> bool:
        """Whether the service principal's secret is another one now."""
        try:
            return self._read_secret() != self._secret
        except UplinkConfigError:
            return False  # in the middle of being replaced

    async def close(self) -> None:
        """Close the library's own connections."""
        for credential in (*self._retired, self._credential):
            if credential is not None:
                await credential.close()

    def _read_secret(self) -> str | None:
        file = self._settings.eventhub_client_secret_file
        if file is None or self._settings.eventhub_credential != "service-principal":
            return None
        try:
            secret = file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            told = getattr(error, "strerror", None) or "it is no text"
            raise UplinkConfigError(
                f"{PREFIX}EVENTHUB_CLIENT_SECRET_FILE {file} cannot be read: {told}"
            ) from None
        if not secret:
            raise UplinkConfigError(f"{PREFIX}EVENTHUB_CLIENT_SECRET_FILE {file} is empty")
        return secret

    def _new_credential(self, secret: str | None) -> Any:
        try:
            from azure.identity import aio as identity
        except ImportError:
            raise UplinkConfigError(
                f"{PREFIX}EVENTHUB_CREDENTIAL needs azure-identity; install farshore[cloud]"
            ) from None
        settings = self._settings
        outside: dict[str, Any] = {}
        if self._proxy is not None:
            outside["proxies"] = {"https": self._proxy}
        # The public login has a public certificate; the library would trust this file alone.
        if settings.eventhub_ca_file is not None and "AZURE_AUTHORITY_HOST" in os.environ:
            outside["connection_verify"] = str(settings.eventhub_ca_file)
        try:
            match settings.eventhub_credential:
                case "managed-identity":
                    return identity.ManagedIdentityCredential(client_id=settings.eventhub_client_id)
                case "workload-identity":
                    given = {
                        "tenant_id": settings.eventhub_tenant_id,
                        "client_id": settings.eventhub_client_id,
                    }
                    known = {name: value for name, value in given.items() if value is not None}
                    return identity.WorkloadIdentityCredential(**known, **outside)
                case _:
                    if not (settings.eventhub_tenant_id and settings.eventhub_client_id and secret):
                        raise UplinkConfigError(
                            f"{PREFIX}EVENTHUB_CREDENTIAL=service-principal needs "
                            f"{PREFIX}EVENTHUB_TENANT_ID, {PREFIX}EVENTHUB_CLIENT_ID "
                            f"and {PREFIX}EVENTHUB_CLIENT_SECRET_FILE"
                        )
                    return identity.ClientSecretCredential(
                        settings.eventhub_tenant_id, settings.eventhub_client_id, secret, **outside
                    )
        except ValueError as error:
            # The library names what is missing, such as AZURE_FEDERATED_TOKEN_FILE.
            first_line = str(error).splitlines()[0]
            raise UplinkConfigError(
                f"{PREFIX}EVENTHUB_CREDENTIAL={settings.eventhub_credential} is not usable: {first_line}"
            ) from None
