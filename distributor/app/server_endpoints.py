"""Where a server listens and with which certificates, and whether that is safe."""

from __future__ import annotations

from collections.abc import Iterator

from distributor.errors import ConfigurationError
from distributor.observability.logging import get_logger
from distributor.rpc.server import Listener
from distributor.settings import ServerSettings, is_loopback, split_address
from distributor.wire.certificate_files import CertificateFiles, PemPaths, SettingNames
from distributor.wire.credentials import grpc_server_credentials

logger = get_logger()


def server_certificates(settings: ServerSettings) -> CertificateFiles | None:
    """The certificate files of a server, loaded; None without TLS. Raises ConfigurationError if they are unusable."""
    if settings.tls_cert is None:
        return None
    paths = PemPaths(settings.tls_cert, settings.tls_key, settings.client_ca)
    files = CertificateFiles(paths, SettingNames(authorities="client_ca"))
    files.on_change = log_change
    files.load()
    return files


def log_change(problem: ConfigurationError | None) -> None:
    """Log that certificate files were replaced."""
    if problem is None:
        logger.info("certificate files changed; new connections use them")
    else:
        logger.error("certificate files changed and are unusable; the previous ones stay in use", fault=str(problem))


def grpc_listeners(settings: ServerSettings, files: CertificateFiles | None) -> list[Listener]:
    """The addresses for gRPC: `listen`, and `mtls_listen` if it is set."""
    if files is None:
        return [Listener(settings.listen)]
    listeners = [Listener(settings.listen, "listen", grpc_server_credentials(files))]
    if settings.mtls_listen:
        mutual = grpc_server_credentials(files, require_client=True)
        listeners.append(Listener(settings.mtls_listen, "mtls_listen", mutual))
    return listeners


def check_exposure(settings: ServerSettings) -> None:
    """Raise ConfigurationError if anything beyond loopback is in plain text or unauthenticated, unless `insecure`."""
    faults = list(_exposed(settings))
    if not faults:
        return
    if not settings.insecure:
        raise ConfigurationError(
            f"{'; '.join(faults)}; or set insecure to permit this for a test", field="insecure", reason="EXPOSED"
        )
    logger.warning("insecure: exposed beyond loopback", faults=faults)


def _exposed(settings: ServerSettings) -> Iterator[str]:
    reachable = beyond_loopback(settings.listen)
    if reachable and settings.tls_cert is None:
        yield f"listen {settings.listen} is beyond loopback without TLS: set tls_cert and tls_key"
    if reachable and not settings.authenticates:
        yield (
            f"listen {settings.listen} is beyond loopback without authentication: set client_ca, token_key_file, "
            "public_keys or jwks_url"
        )
    if beyond_loopback(settings.http_listen) and not settings.http_tls:
        yield f"http_listen {settings.http_listen} is beyond loopback without TLS: set http_tls, tls_cert and tls_key"


def insecurities(settings: ServerSettings, *, authenticated: bool) -> list[str]:
    """What is unsafe about a server, as WhoAmIResponse names it."""
    plain_http = beyond_loopback(settings.http_listen) and not settings.http_tls
    found = {
        "unauthenticated": not authenticated,
        "plain_text": beyond_loopback(settings.listen) and settings.tls_cert is None,
        "plain_http": plain_http,
    }
    return [name for name, unsafe in found.items() if unsafe]


def beyond_loopback(address: str) -> bool:
    """Whether other hosts may reach `address`, "host:port"."""
    return not is_loopback(split_address(address)[0])
