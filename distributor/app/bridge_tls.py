"""The certificates of a bridge, and whether its page is safe where it listens."""

from __future__ import annotations

from distributor.app.server_endpoints import beyond_loopback, log_change
from distributor.errors import ConfigurationError
from distributor.observability.logging import get_logger
from distributor.settings import BridgeSettings
from distributor.wire.certificate_files import CertificateFiles, PemPaths

logger = get_logger()


def bridge_certificates(settings: BridgeSettings) -> CertificateFiles | None:
    """The certificate files for dashboards, loaded; None without TLS. Raises ConfigurationError if unusable."""
    if settings.tls_cert is None:
        return None
    files = CertificateFiles(PemPaths(settings.tls_cert, settings.tls_key))
    files.on_change = log_change
    files.load()
    return files


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
