"""Keys, the Merkle tree, checkpoints and rows of the audit trail, each by itself."""

from __future__ import annotations

import hashlib
import json

import pytest

from distributor.errors import ConfigurationError
from distributor.identity.audit_checkpoint import is_ours, parsed, signed
from distributor.identity.audit_keys import AuditKeyRing, new_key_line
from distributor.identity.audit_rows import Place, read, stored
from distributor.identity.merkle_tree import MerkleTree
from distributor.model.audit_entry import MAX_IDS, MAX_TEXT, AuditActor, AuditEntry, AuditEvent, AuditOutcome
from tests.support.memory_trail import ring


class TestKeys:
    def test_a_file_with_a_comment_and_two_keys(self) -> None:
        keys = AuditKeyRing.parse("# audit keys\n" + new_key_line("2026") + "\n" + new_key_line("2027"))
        assert [key.key_id for key in keys.keys] == ["2026", "2027"]
        assert keys.current.key_id == "2027"

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("", "at least one key"),
            ("k1\n", "key 1 must be"),
            ("k1 c2hvcnQ\n", "key 1 must be"),
            ("k/1 " + "A" * 43, "key 1 must be"),
            ("k1 " + "A" * 43 + "\nk1 " + "B" * 43, "each key id once"),
            ("k1 " + "%" * 43, "key 1 must be"),
        ],
    )
    def test_a_bad_file_is_refused_without_its_content(self, text: str, problem: str) -> None:
        with pytest.raises(ConfigurationError, match=problem) as caught:
            AuditKeyRing.parse(text)
        assert "c2hvcnQ" not in str(caught.value)

    def test_the_secret_is_not_in_its_text(self) -> None:
        key = AuditKeyRing.parse("k1 " + "A" * 43).current
        assert "secret" not in repr(key)

    def test_uses_of_a_key_are_apart(self) -> None:
        key = ring().current
        assert key.mac(b"a", b"b") != key.mac(b"", b"a\0b")


class TestMerkleTree:
    def test_the_roots_of_rfc_6962(self) -> None:
        """Of its own test vectors: the first leaves of certificate transparency's reference tree."""
        leaves = [b"", b"\x00", b"\x10", b"\x20\x21", b"\x30\x31"]
        roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        ]
        tree = MerkleTree()
        assert tree.root() == hashlib.sha256(b"").digest()
        for leaf, root in zip(leaves, roots, strict=True):
            tree.append(leaf)
            assert tree.root().hex() == root

    def test_hashes_that_do_not_fit_the_size(self) -> None:
        with pytest.raises(ValueError, match="do not fit"):
            MerkleTree(3, [b"x" * 32])


class TestCheckpoints:
    def test_they_read_as_signed_notes(self) -> None:
        keys = ring("k1", "k2")
        made = signed("distributor/audit/0011", 42, b"r" * 32, keys.current)
        origin, size, root, empty, signature = made.text.split("\n")[:5]
        assert (origin, size, empty) == ("distributor/audit/0011", "42", "")
        assert root == "cnJycnJycnJycnJycnJycnJycnJycnJycnJycnJycnI="
        assert signature.startswith("— distributor/audit/0011/k2 ")
        assert parsed(made.text) == made
        assert is_ours(made, keys) is True
        assert is_ours(made, ring("k2")) is False, "another key of the same name"
        assert is_ours(made, ring("k3")) is None, "a key that is not here"

    @pytest.mark.parametrize(
        ("old", "new"), [("\n42\n", "\n43\n"), ("\n42\n", "\n042\n"), ("cnJy", "cnJz"), ("0011\n", "0012\n")]
    )
    def test_no_part_can_be_changed(self, old: str, new: str) -> None:
        keys = ring()
        made = signed("distributor/audit/0011", 42, b"r" * 32, keys.current)
        changed = parsed(made.text.replace(old, new, 1))
        assert changed is None or not is_ours(changed, keys)

    @pytest.mark.parametrize("text", ["", "x", "a\n1\n", "\n" * 9, "a\n1\n" + "é" * 2_000, "a\n99999999999999999\n"])
    def test_other_texts_are_not_checkpoints(self, text: str) -> None:
        assert parsed(text) is None


class TestRows:
    KEY = ring().current

    def test_what_is_stored_is_what_is_read(self) -> None:
        entry = AuditEntry(
            AuditEvent.COMMAND_CANCELLED,
            AuditActor("service", "bridge", "alice", "192.0.2.1"),
            AuditOutcome.REFUSED,
            "press-7",
            ("c1", "c2"),
            "ROLE_MISSING",
            2,
            {"method": "CancelCommand", "dropped": 3},
        )
        found = read(stored(entry, Place(7, 1_000, "before"), self.KEY).data, 3)
        assert found.row.entry == entry
        assert (found.row.seq, found.row.at_ms, found.row.segment, found.previous) == (7, 1_000, 3, "before")

    @pytest.mark.parametrize(
        ("outcome", "code"),
        [
            (AuditOutcome.SUCCESS, "CMD02I"),
            (AuditOutcome.ATTEMPT, "CMD02I"),
            (AuditOutcome.REFUSED, "CMD02W"),
            (AuditOutcome.FAILED, "CMD02E"),
        ],
    )
    def test_the_code_tells_the_outcome(self, outcome: AuditOutcome, code: str) -> None:
        row = stored(AuditEntry(AuditEvent.COMMAND_CANCELLED, outcome=outcome), Place(1, 1, ""), self.KEY)
        assert json.loads(row.data)["code"] == code

    def test_everything_is_bounded(self) -> None:
        entry = AuditEntry(
            AuditEvent.COMMAND_SENT,
            AuditActor("user", "u" * 9_999),
            agent_id="a" * 9_999,
            command_ids=tuple(f"c{n}" for n in range(1_000)),
            reason="r" * 9_999,
            count=1_000,
            details={f"d{n}": "x" * 9_999 for n in range(100)},
        )
        row = stored(entry, Place(1, 1, ""), self.KEY)
        assert len(row.data) < 8_192
        found = read(row.data).row.entry
        assert len(found.command_ids) == MAX_IDS
        assert found.count == 1_000
        assert len(found.actor.subject) == MAX_TEXT
