"""The certificates of a bridge, and whether its page is safe where it listens."""

from __future__ import annotations

from distributor.app.server_endpoints import beyond_loopback, log_change
from distributor.app.valkey_address import valkey_certificates
from distributor.errors import ConfigurationError
from distributor.observability.logging import get_logger
from distributor.settings import BridgeSettings
from distributor.wire.certificate_files import CertificateFiles, PemPaths, SettingNames
from distributor.wire.credentials import ClientCredentials, Connector, is_plain_target

logger = get_logger()


def bridge_certificates(settings: BridgeSettings) -> CertificateFiles | None:
    """The certificate files for dashboards, loaded; None without TLS. Raises ConfigurationError if unusable."""
    if settings.tls_cert is None:
        return None
    files = CertificateFiles(PemPaths(settings.tls_cert, settings.tls_key))
    files.on_change = log_change
    files.load()
    return files


def watched_certificates(settings: BridgeSettings, page: CertificateFiles | None) -> dict[str, CertificateFiles]:
    """The certificates of a bridge, by what they are for."""
    to_server = CertificateFiles(
        PemPaths(settings.server_cert, settings.server_key), SettingNames("server_cert", "server_key", "server_ca")
    )
    to_server.on_change = log_change
    watched = {"server": to_server, "valkey": valkey_certificates(settings)}
    return watched | {"listen": page} if page is not None else watched


def insecurities(settings: BridgeSettings) -> list[str]:
    """What crosses a network in plain text, as `bridge:status` says it."""
    page = settings.tls_cert is None and beyond_loopback(settings.listen)
    connector = Connector(ClientCredentials.of_bridge(settings))
    server = not connector.uses_tls(settings.server) and not is_plain_target(settings.server)
    return [name for name, found in (("plain_page", page), ("plain_server", server)) if found]


def check_page_exposure(settings: BridgeSettings) -> None:
    """Raise ConfigurationError if the page is in plain text beyond loopback, unless `insecure`."""
    if settings.tls_cert is not None or not beyond_loopback(settings.listen):
        return
    fault = f"listen {settings.listen} in [bridge] is beyond loopback without TLS"
    if not settings.insecure:
        raise ConfigurationError(
            f"{fault}: set tls_cert and tls_key, or listen on loopback behind a proxy; or set insecure to permit plain "
            "text",
            field="insecure",
            reason="EXPOSED",
        )
    logger.warning("insecure: exposed beyond loopback", faults=[fault])
