"""The files of an enrolled agent: private, and replaced as a whole."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from distributor.agent.identity_files import EnrolmentFacts, IdentityFiles
from distributor.errors import ConfigurationError
from distributor.identity.certificates import certificate_part
from distributor.identity.private_keys import private_key, private_pem
from tests.support.certificates import CertificateMaker

FACTS = EnrolmentFacts("press-7", "a.example:50052", "a.example:50051", "distributor", {"site": "lab"})
PEER = CertificateMaker().agent("press-7")


def files_in(folder: Path) -> IdentityFiles:
    files = IdentityFiles(folder / "press-7.identity")
    files.create(PEER.key_pem, PEER.certificate_pem, PEER.ca_pem, FACTS)
    return files


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert not IdentityFiles(tmp_path / "press-7.identity").exists
    files = files_in(tmp_path)
    assert files.exists
    assert files.facts() == FACTS
    assert certificate_part(files.credential_pem()) == PEER.certificate_pem
    assert private_pem(private_key(files.credential_pem())) == PEER.key_pem
    assert files.trusted == files.server_ca
    assert files.server_ca.read_bytes() == PEER.ca_pem


def test_only_the_owner_can_read_them_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        files = files_in(tmp_path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(files.folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in files.folder.iterdir()} == {0o600}


def test_without_a_ca_the_host_decides_whom_to_trust(tmp_path: Path) -> None:
    files = files_in(tmp_path)
    files.create(PEER.key_pem, PEER.certificate_pem, b"", FACTS)
    assert files.trusted is None


def test_key_and_certificate_are_replaced_together(tmp_path: Path) -> None:
    files, other = files_in(tmp_path), CertificateMaker().agent("press-7")
    files.replace_credential(other.key_pem, other.certificate_pem)
    assert files.credential_pem() == other.key_pem + other.certificate_pem
    assert len(list(files.folder.iterdir())) == 3, "nothing temporary is left"


def test_damaged_facts_are_named(tmp_path: Path) -> None:
    files = files_in(tmp_path)
    (files.folder / "enrolment.json").write_text("{}")
    with pytest.raises(ConfigurationError, match="damaged; enrol the agent again"):
        files.facts()
