"""Trusted keys that follow their files."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from distributor.errors import ConfigurationError
from distributor.identity.signatures import Signer, TrustedSigners
from distributor.identity.signer_files import SignerFiles
from tests.support.signed_commands import new_signer


def write(path: Path, content: bytes) -> None:
    """Replace the file, so that its identity changes with its content."""
    new = path.with_suffix(".new")
    new.write_bytes(content)
    os.replace(new, path)


def key_ids(signers: TrustedSigners) -> set[str]:
    return set(signers._signers)


def ids_of(*signers: Signer) -> set[str]:
    return {signer.key_id for signer in signers}


async def test_a_replaced_key_counts_instead_of_the_former(tmp_path: Path) -> None:
    first, second = new_signer(), new_signer()
    path = tmp_path / "deploy.pub.pem"
    write(path, first.public_pem())
    files = SignerFiles([f"{path}:BACKUP"])
    assert key_ids(files.current) == ids_of(first)
    assert not await files.run_once()
    write(path, second.public_pem())
    assert await files.run_once()
    assert key_ids(files.current) == ids_of(second)
    assert files.current._signers[second.key_id].types == ("BACKUP",)


async def test_keys_come_and_go_in_a_folder(tmp_path: Path) -> None:
    first, second = new_signer(), new_signer()
    write(tmp_path / "a.pem", first.public_pem())
    files = SignerFiles([str(tmp_path)])
    write(tmp_path / "b.pem", second.public_pem())
    assert await files.run_once()
    assert key_ids(files.current) == ids_of(first, second)
    (tmp_path / "a.pem").unlink()
    assert await files.run_once()
    assert key_ids(files.current) == ids_of(second)
    (tmp_path / "b.pem").unlink()
    assert await files.run_once()
    assert not len(files.current), "the last key, too, no longer counts once its file is gone"


async def test_an_unusable_key_leaves_the_former_in_use(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second = new_signer(), new_signer()
    path = tmp_path / "deploy.pub.pem"
    write(path, first.public_pem())
    files = SignerFiles([str(path)])
    write(path, b"no key")
    with caplog.at_level(logging.INFO):
        assert not await files.run_once()
        assert not await files.run_once()
    assert sum("cannot be used" in record.getMessage() for record in caplog.records) == 1
    assert key_ids(files.current) == ids_of(first)
    write(path, second.public_pem())
    assert await files.run_once()
    assert key_ids(files.current) == ids_of(second)


def test_at_the_start_every_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        SignerFiles([str(tmp_path / "none.pem")])
    with pytest.raises(ConfigurationError, match=r"has no \*\.pem files"):
        SignerFiles([str(tmp_path)])
