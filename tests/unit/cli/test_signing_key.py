from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from distributor.cli.distributor import main
from distributor.cli.signing_key import make_signing_key
from distributor.errors import ConfigurationError
from distributor.identity.signatures import Signer, load_trusted_signers


def test_a_key_is_written_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "deploy.pem"
    outcome = CliRunner().invoke(main, ["signing-key", "--out", str(path)])
    assert outcome.exit_code == 0, outcome.output
    assert path.stat().st_mode & 0o777 == 0o600
    assert Signer.from_file(path).key_id in outcome.output
    assert len(load_trusted_signers([str(tmp_path / "deploy.pub.pem")])) == 1
    assert "PRIVATE" not in outcome.output


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "deploy.pem"
    make_signing_key(path)
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="never overwritten"):
        make_signing_key(path)
    assert path.read_bytes() == before


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        make_signing_key(tmp_path / "none" / "deploy.pem")
