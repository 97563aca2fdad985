"""A certificate, its private key and trusted authorities in PEM files that may be replaced while the process runs."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from distributor.errors import ConfigurationError

Signature = tuple[tuple[int, int, int], ...]


class PemSet(NamedTuple):
    """The contents of the files; empty for a file that is not configured."""

    certificate: bytes = b""
    key: bytes = b""
    authorities: bytes = b""


class PemPaths(NamedTuple):
    """The files: a certificate chain and its key, or neither, and trusted authorities."""

    certificate: Path | None = None
    key: Path | None = None
    authorities: Path | None = None


class SettingNames(NamedTuple):
    """The names by which errors call the files."""

    certificate: str = "tls_cert"
    key: str = "tls_key"
    authorities: str = "tls_ca"


def ignore_change(problem: ConfigurationError | None) -> None:
    """The default for `CertificateFiles.on_change`."""


class CertificateFiles:
    """The contents of certificate files, read again when the files change.

    Thread-safe: gRPC asks for certificates from threads of its own, once per handshake. Files that were replaced by
    unusable ones do not count: the last usable ones stay in use, and `on_change` gets the error, once.
    """

    def __init__(self, paths: PemPaths, names: SettingNames = SettingNames()) -> None:  # noqa: B008 - immutable
        """Reads nothing yet. Raises ConfigurationError if only one of certificate and key is set."""
        for path, has, lacks in (
            (paths.certificate, names.certificate, names.key),
            (paths.key, names.key, names.certificate),
        ):
            if path is not None and None in (paths.certificate, paths.key):
                raise ConfigurationError(f"{has} is set without {lacks}: set both, or neither", field=lacks)
        self.paths = paths
        self.on_change: Callable[[ConfigurationError | None], None] = ignore_change
        """Called after the files changed: with None if the new ones are in use, else with the error."""
        self._names = names
        self._lock = threading.Lock()
        self._signature: Signature | None = None
        self._current: PemSet | None = None

    def load(self) -> PemSet:
        """Read and check the files. Raises ConfigurationError, which names the file, its setting and the fault."""
        with self._lock:
            self._signature = self._signed()
            self._current = self._read()
            return self._current

    def current(self) -> PemSet:
        """The contents of the latest usable files. Raises ConfigurationError if there have been none."""
        with self._lock:
            signature = self._signed()
            if self._current is not None and signature == self._signature:
                return self._current
            self._signature = signature
            try:
                latest = self._read()
            except ConfigurationError as error:
                if self._current is None:
                    raise
                self.on_change(error)
                return self._current
            changed, self._current = latest != self._current and self._current is not None, latest
            if changed:
                self.on_change(None)
            return latest

    def _signed(self) -> Signature:
        """What changes when a file is written or replaced, also behind a symbolic link."""
        return tuple(_file_signature(path) for path in self.paths if path is not None)

    def _read(self) -> PemSet:
        """Read twice around the check, which takes paths: the contents are those that were checked."""
        while True:
            contents = self._contents()
            self._check()
            if contents == self._contents():
                return contents

    def _contents(self) -> PemSet:
        return PemSet(*(_read(path, name) for path, name in zip(self.paths, self._names, strict=True)))

    def _check(self) -> None:
        paths, names = self.paths, self._names
        if paths.authorities is not None:
            _check_certificates(paths.authorities, names.authorities)
        if paths.certificate is not None and paths.key is not None:
            _check_certificates(paths.certificate, names.certificate)
            _check_pair(paths.certificate, paths.key, names)


def _file_signature(path: Path) -> tuple[int, int, int]:
    """Changes with each write, replacement and change of permissions."""
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_ino, found.st_size, found.st_ctime_ns)


def _read(path: Path | None, setting: str) -> bytes:
    try:
        return b"" if path is None else path.read_bytes()
    except OSError as error:
        raise _unusable(f"cannot read {path} ({setting}): {error.strerror}", setting) from error


def _check_certificates(path: Path, setting: str) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except ssl.SSLError as error:
        raise _unusable(f"{path} ({setting}) contains no certificate in PEM form", setting) from error
    except OSError as error:
        raise _unusable(f"cannot read {path} ({setting}): {error.strerror}", setting) from error


def _check_pair(certificate: Path, key: Path, names: SettingNames) -> None:
    try:
        # Without a password, OpenSSL would ask for one at the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            text = f"{key} ({names.key}) is not the key of the first certificate in {certificate} ({names.certificate})"
        else:
            text = f"{key} ({names.key}) contains no private key in PEM form without a passphrase"
        raise _unusable(text, names.key) from error
    except OSError as error:
        raise _unusable(f"cannot read {key} ({names.key}): {error.strerror}", names.key) from error


def _unusable(text: str, setting: str) -> ConfigurationError:
    return ConfigurationError(text, field=setting, reason="UNUSABLE_CERTIFICATE")
