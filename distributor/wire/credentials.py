"""Makes the credentials of every gRPC endpoint: servers and channels. `http_context` makes those of HTTP servers.

Plain text is only for loopback, unless the operator permits it with `insecure`. A token never travels in plain text
beyond loopback, whatever is permitted. Certificates are read again when their files change: new connections use the new
ones, and open connections live on.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import grpc
from grpc import aio

from distributor.errors import ConfigurationError
from distributor.wire.certificate_files import CertificateFiles, PemPaths, PemSet
from distributor.wire.proxies import is_loopback_target
from distributor.wire.transport import channel_options

if TYPE_CHECKING:
    from distributor.settings.bridge_tls import BridgeTls
    from distributor.settings.tls import CallerTls

Metadata = tuple[tuple[str, str], ...]

AUTHORIZATION: Final = "authorization"
_SYSTEM_ROOTS: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


def grpc_server_credentials(files: CertificateFiles, *, require_client: bool = False) -> grpc.ServerCredentials:
    """Credentials of a gRPC port. With `require_client`, callers need a certificate of the authorities in `files`.

    gRPC for Python cannot request a certificate without requiring it, hence a port of its own for callers with one.
    Raises ConfigurationError for unusable files.
    """
    given = files.load()

    def latest() -> Any:
        """The new configuration; None, which the types of grpc do not allow, if it has not changed."""
        nonlocal given
        current = files.current()
        if current == given:
            return None
        given = current
        return _server_configuration(current, require_client)

    return grpc.dynamic_ssl_server_credentials(
        _server_configuration(given, require_client), latest, require_client_authentication=require_client
    )


def _server_configuration(pem: PemSet, require_client: bool) -> grpc.ServerCertificateConfiguration:
    roots = pem.authorities if require_client else None
    return grpc.ssl_server_certificate_configuration([(pem.key, pem.certificate)], roots)


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """What an agent or caller presents to servers, and which servers it trusts.

    TLS is used for servers beyond loopback, and for all with `tls`, `ca` or `certificate`. `ca` is a PEM file with the
    authorities to trust; without it, those of the system are. `certificate` and `key` are PEM files. `insecure` permits
    plain text beyond loopback. The token is `token`, or the content of `token_file`, which is read again when it
    changes.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    tls: bool = False
    insecure: bool = False
    token: str = field(default="", repr=False)
    token_file: Path | None = None

    @classmethod
    def of(cls, settings: CallerTls) -> ClientCredentials:
        """The credentials of an agent or a caller."""
        return cls(
            settings.tls_ca,
            settings.tls_cert,
            settings.tls_key,
            settings.tls,
            settings.insecure,
            settings.token.get_secret_value(),
            settings.token_file,
        )

    @classmethod
    def of_bridge(cls, settings: BridgeTls) -> ClientCredentials:
        """The credentials of a bridge towards its server."""
        return cls(
            settings.server_ca,
            settings.server_cert,
            settings.server_key,
            settings.server_tls,
            settings.insecure,
            settings.server_token.get_secret_value(),
            settings.server_token_file,
        )


NO_CREDENTIALS: Final = ClientCredentials()


class Connector:
    """Opens channels to servers with one caller's credentials. Not thread-safe."""

    def __init__(self, credentials: ClientCredentials = NO_CREDENTIALS) -> None:
        """Reads no file yet. Raises ConfigurationError if only one of certificate and key is set."""
        self._credentials = credentials
        self.files = CertificateFiles(PemPaths(credentials.certificate, credentials.key, credentials.ca))
        self._token = _TokenFile(credentials.token_file) if credentials.token_file else None

    def uses_tls(self, target: str) -> bool:
        """Whether channels to `target`, one address or several separated by commas, use TLS."""
        own = self._credentials
        if own.tls or own.ca is not None or own.certificate is not None:
            return True
        return not own.insecure and not is_plain_target(target)

    def channel(self, target: str, options: Sequence[tuple[str, int]] = ()) -> aio.Channel:
        """Open a channel with the options of `channel_options`, and these.

        Raises ConfigurationError for unusable files, or a token that would travel in plain text beyond loopback.
        """
        every = [*channel_options(target), *options]
        if self.uses_tls(target):
            return aio.secure_channel(target, self._channel_credentials(), options=every)
        if (self._credentials.token or self._token) and not is_plain_target(target):
            raise ConfigurationError(
                f"a token must not be sent to {target} in plain text: set tls or tls_ca, and remove insecure",
                field="insecure",
                reason="PLAIN_TEXT_TOKEN",
            )
        return aio.insecure_channel(target, options=every)

    def authorization(self) -> Metadata:
        """The metadata of each call: the token, if there is one. Raises ConfigurationError if it cannot be read."""
        token = self._token.read() if self._token else self._credentials.token
        return ((AUTHORIZATION, f"Bearer {token}"),) if token else ()

    def _channel_credentials(self) -> grpc.ChannelCredentials:
        pem = self.files.current()
        return grpc.ssl_channel_credentials(
            pem.authorities or _system_roots(), pem.key or None, pem.certificate or None
        )


class _TokenFile:
    """A file that holds a token."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._modified = -1
        self._token = ""

    def read(self) -> str:
        """The token; the last one while the file cannot be read. Raises ConfigurationError if there has been none."""
        try:
            modified = self._path.stat().st_ctime_ns
            if modified != self._modified:
                self._token = self._path.read_text().strip() or self._token
                self._modified = modified
        except (OSError, UnicodeDecodeError) as error:
            if not self._token:
                why = error.strerror if isinstance(error, OSError) else "it is not text"
                raise ConfigurationError(f"cannot read {self._path} (token_file): {why}", field="token_file") from error
        if not self._token:
            raise ConfigurationError(f"{self._path} (token_file) is empty", field="token_file")
        return self._token


def is_plain_target(target: str) -> bool:
    """Whether a target never leaves this host: loopback, or a Unix socket."""
    return target.startswith("unix:") or is_loopback_target(target)


def _system_roots() -> bytes | None:
    """The authorities that this host trusts; None for those built into gRPC."""
    for name in (ssl.get_default_verify_paths().cafile, *_SYSTEM_ROOTS):
        if name and Path(name).is_file():
            return Path(name).read_bytes()
    return None
