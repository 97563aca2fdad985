"""The address of Valkey, with the files for TLS."""

from __future__ import annotations

from distributor.app.server_endpoints import log_change
from distributor.settings import BridgeSettings, ServerSettings
from distributor.store.valkey_connection import ValkeyFiles, with_files
from distributor.wire.certificate_files import CertificateFiles, PemPaths, SettingNames


def valkey_address(settings: ServerSettings | BridgeSettings) -> str:
    """`valkey_url` with its certificate files; empty if it is. Raises ConfigurationError if they are unusable."""
    valkey_certificates(settings).load()
    return with_files(settings.valkey_url, ValkeyFiles(settings.valkey_ca, settings.valkey_cert, settings.valkey_key))


def valkey_certificates(settings: ServerSettings | BridgeSettings) -> CertificateFiles:
    """The certificate files for Valkey, not loaded yet."""
    paths = PemPaths(settings.valkey_cert, settings.valkey_key, settings.valkey_ca)
    files = CertificateFiles(paths, SettingNames("valkey_cert", "valkey_key", "valkey_ca"))
    files.on_change = log_change
    return files
