from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from distributor.errors import ConfigurationError
from distributor.identity.signatures import (
    MAX_VALIDITY_SECONDS,
    SignatureRefused,
    Signer,
    load_trusted_signers,
    new_signing_key,
)
from distributor.model.signed_content import SignedContent
from tests.support.signed_commands import new_signer, trusted, written_key

NOW = 1_700_000_000_000
SIGNER = new_signer()
CONTENT = SignedContent(
    "018bcfe5-6800-7000-8000-000000000000", SIGNER.key_id, "db-1", "BACKUP", {"path": "/x", "level": 1}, NOW + 60_000
)
VALUE = SIGNER.sign(CONTENT)


def refusal(content: SignedContent, value: bytes = VALUE, now_ms: int = NOW, *types: str) -> str:
    with pytest.raises(SignatureRefused) as caught:
        trusted(SIGNER, *types).verify(content, value, now_ms)
    return caught.value.code


def test_a_signature_of_this_content_is_accepted() -> None:
    trusted(SIGNER).verify(CONTENT, VALUE, NOW)
    trusted(SIGNER, "BACK*").verify(replace(CONTENT, params={"level": 1.0, "path": "/x"}), VALUE, NOW)


@pytest.mark.parametrize(
    "change",
    [
        {"signature_id": "018bcfe5-6800-7000-8000-000000000001"},
        {"agent_id": "db-2"},
        {"type": "RESTORE"},
        {"params": {"path": "/x", "level": 2}},
        {"params": {}},
        {"params": {"path": "/x", "level": 1, "more": None}},
        {"params": {"path": "\ud800"}},
        {"params": {"path": float("nan")}},
        {"expires_ms": NOW + 60_001},
    ],
    ids=str,
)
def test_any_other_content_is_refused(change: dict[str, object]) -> None:
    assert refusal(replace(CONTENT, **change)) == "signature_invalid"  # type: ignore[arg-type]


OTHER_VALUES = {
    "empty": b"",
    "short": VALUE[:-1],
    "zero": bytes(64),
    "long": VALUE + b"\0",
    "of another key": new_signer().sign(CONTENT),
}


@pytest.mark.parametrize("value", OTHER_VALUES.values(), ids=OTHER_VALUES)
def test_any_other_value_is_refused(value: bytes) -> None:
    assert refusal(CONTENT, value) == "signature_invalid"


def test_a_signature_of_the_content_without_the_purpose_is_none() -> None:
    bare = CONTENT.canonical().replace(b'"purpose":"command-distributor/command/1",', b"")
    assert refusal(CONTENT, SIGNER._key.sign(bare)) == "signature_invalid"


def test_an_unknown_key_is_refused() -> None:
    other = new_signer()
    content = replace(CONTENT, key_id=other.key_id)
    assert refusal(content, other.sign(content)) == "signer_unknown"


def test_a_key_signs_only_the_types_it_is_trusted_for() -> None:
    assert refusal(CONTENT, VALUE, NOW, "RESTORE", "VERIFY*") == "signer_unknown"


def test_an_expired_signature_is_refused() -> None:
    trusted(SIGNER).verify(CONTENT, VALUE, NOW + 59_999)
    assert refusal(CONTENT, now_ms=NOW + 60_000) == "signature_expired"


def test_a_signature_that_is_valid_for_too_long_is_refused() -> None:
    content = replace(CONTENT, expires_ms=NOW + MAX_VALIDITY_SECONDS * 1_000 + 1)
    assert refusal(content, SIGNER.sign(content)) == "signature_invalid"


def test_no_refusal_quotes_content() -> None:
    with pytest.raises(SignatureRefused) as caught:
        trusted(SIGNER).verify(replace(CONTENT, params={"password": "SECRET"}), VALUE, NOW)
    assert "SECRET" not in str(caught.value)


def test_keys_of_openssl_work(tmp_path: Path) -> None:
    private, public = tmp_path / "k.pem", tmp_path / "k.pub.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", private], check=True)
    private.chmod(0o600)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True)
    signer = Signer.from_file(private)
    content = replace(CONTENT, key_id=signer.key_id)
    load_trusted_signers([str(public)]).verify(content, signer.sign(content), NOW)


def test_openssl_verifies_our_signatures(tmp_path: Path) -> None:
    _, public = written_key(new_signing_key(), tmp_path)
    signer = Signer.from_file(tmp_path / "key.pem")
    (tmp_path / "content").write_bytes(CONTENT.canonical())
    (tmp_path / "value").write_bytes(signer.sign(CONTENT))
    verify = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(public), "-rawin"]
    subprocess.run([*verify, "-in", tmp_path / "content", "-sigfile", tmp_path / "value"], check=True)


def test_a_folder_of_keys_is_trusted(tmp_path: Path) -> None:
    written_key(new_signing_key(), tmp_path)
    (tmp_path / "key.pem").unlink()
    (tmp_path / "readme.txt").write_text("no key")
    assert len(load_trusted_signers([f"{tmp_path}:BACKUP"])) == 1


def test_a_private_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    private, _ = written_key(new_signing_key(), tmp_path)
    private.chmod(0o640)
    with pytest.raises(ConfigurationError, match="can be read by others"):
        Signer.from_file(private)


OTHER = ec.generate_private_key(ec.SECP256R1())
OTHER_PRIVATE = OTHER.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
OTHER_PUBLIC = OTHER.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    ("pem", "sentence"),
    [(b"x", "not an unencrypted private key"), (OTHER_PRIVATE, "must be an Ed25519 key")],
    ids=["none", "other"],
)
def test_other_private_keys_are_refused(pem: bytes, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        Signer(pem)


@pytest.mark.parametrize("content", [b"x", OTHER_PUBLIC], ids=["none", "other"])
def test_other_public_keys_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "k.pem").write_bytes(content)
    with pytest.raises(ConfigurationError, match="k.pem"):
        load_trusted_signers([str(tmp_path / "k.pem")])


def test_a_folder_without_keys_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"has no \*.pem"):
        load_trusted_signers([str(tmp_path)])
