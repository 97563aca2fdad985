"""Certificate files: faults are named, and replaced files are used only if they are usable."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from distributor.errors import ConfigurationError
from distributor.wire.certificate_files import CertificateFiles, PemPaths
from tests.support.certificates import CertificateFiles as Written
from tests.support.certificates import CertificateMaker


@pytest.fixture
def written(tmp_path: Path) -> Written:
    return CertificateMaker().server().write(tmp_path, "server")


def files_at(written: Written) -> CertificateFiles:
    return CertificateFiles(PemPaths(written.certificate, written.key, written.ca))


def fault(written: Written) -> str:
    with pytest.raises(ConfigurationError) as caught:
        files_at(written).load()
    assert caught.value.reason == "UNUSABLE_CERTIFICATE"
    return str(caught.value)


def test_what_is_usable_is_read(written: Written) -> None:
    pem = files_at(written).load()
    assert pem == tuple(path.read_bytes() for path in written)


@pytest.mark.parametrize(("place", "setting"), [(0, "tls_cert"), (1, "tls_key"), (2, "tls_ca")])
def test_a_file_that_is_missing_or_a_folder_is_named(written: Written, place: int, setting: str) -> None:
    written[place].unlink()
    assert fault(written) == f"cannot read {written[place]} ({setting}): No such file or directory"
    written[place].mkdir()
    assert fault(written) == f"cannot read {written[place]} ({setting}): Is a directory"


@pytest.mark.parametrize("content", [b"", b"nothing of the kind", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_a_file_without_what_it_should_hold_is_named(written: Written, content: bytes) -> None:
    for path, text in (
        (written.key, "(tls_key) contains no private key in PEM form without a passphrase"),
        (written.certificate, "(tls_cert) contains no certificate in PEM form"),
        (written.ca, "(tls_ca) contains no certificate in PEM form"),
    ):
        path.write_bytes(content)
        assert f"{path} {text}" in fault(written)


def test_a_key_of_another_certificate_is_named(written: Written) -> None:
    written.key.write_bytes(CertificateMaker().server().key_pem)
    assert f"{written.key} (tls_key) is not the key of the first certificate in {written.certificate}" in fault(written)


def test_a_key_with_a_passphrase_is_refused_and_nothing_is_asked(written: Written) -> None:
    key = load_pem_private_key(written.key.read_bytes(), None)
    encrypted = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    written.key.write_bytes(encrypted)
    assert "without a passphrase" in fault(written)


def test_replaced_files_are_used_once_they_fit_together(written: Written) -> None:
    files = files_at(written)
    changes: list[str] = []
    files.on_change = lambda problem: changes.append(str(problem))
    before = files.load()
    successor = CertificateMaker("another").server()
    written.key.write_bytes(successor.key_pem)
    for _ in range(3):
        assert files.current() == before
    assert len(changes) == 1
    written.certificate.write_bytes(successor.certificate_pem)
    written.ca.write_bytes(successor.ca_pem)
    assert files.current() == (successor.certificate_pem, successor.key_pem, successor.ca_pem)
    assert changes[1:] == ["None"]
    assert files.current() == (successor.certificate_pem, successor.key_pem, successor.ca_pem)
    assert len(changes) == 2


def test_files_behind_a_replaced_link_are_read_again(tmp_path: Path) -> None:
    """Secrets that Kubernetes mounts are replaced that way."""
    maker = CertificateMaker()
    old, new = maker.server().write(tmp_path / "1"), maker.server().write(tmp_path / "2")
    link = tmp_path / "now"
    link.symlink_to(tmp_path / "1")
    at = Written(*(link / path.name for path in old))
    files = files_at(at)
    assert files.load().certificate == old.certificate.read_bytes()
    (tmp_path / "next").symlink_to(tmp_path / "2")
    os.replace(tmp_path / "next", link)
    assert files.current().certificate == new.certificate.read_bytes()


@pytest.mark.parametrize("paths", [PemPaths(certificate=Path("a")), PemPaths(key=Path("a"))])
def test_one_of_a_pair_is_not_enough(paths: PemPaths) -> None:
    with pytest.raises(ConfigurationError, match="set both, or neither"):
        CertificateFiles(paths)
