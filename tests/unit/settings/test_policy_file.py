from __future__ import annotations

from pathlib import Path

import pytest

from distributor.errors import ConfigurationError
from distributor.settings.policy_file import NO_POLICY, load_policy

GOOD = """\
unlisted = "refuse"

[types.BACKUP]
schema = "backup.json"
roles = ["operator"]
callers = ["deploy-*"]
agents = ["db-*"]
secret = ["/password"]

[types.BACKUP.labels]
env = "prod"

[types."db.restore"]
schema = { type = "object" }

[services.bridge]
roles = ["delegate"]
"""


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    (tmp_path / "backup.json").write_text('{"required": ["path"]}')
    path = tmp_path / "policy.toml"
    path.write_text(GOOD)
    return path


def test_types_and_services_are_read(policy: Path) -> None:
    loaded = load_policy(policy)
    backup = loaded.types.types["BACKUP"]
    assert backup.roles == {"operator"}
    assert (backup.callers, backup.agents, backup.labels) == (("deploy-*",), ("db-*",), {"env": "prod"})
    assert backup.secret_steps == (("password",),)
    assert backup.schema is not None
    assert loaded.types.refuse_unlisted
    assert "db.restore" in loaded.types.types
    assert loaded.services == {"bridge": {"roles": ["delegate"]}}


def test_without_a_file_there_is_no_policy() -> None:
    assert load_policy(None) is NO_POLICY


def test_the_digest_covers_the_schema_files(policy: Path) -> None:
    before = load_policy(policy).digest
    assert load_policy(policy).digest == before
    (policy.parent / "backup.json").write_text('{"required": ["other"]}')
    assert load_policy(policy).digest != before


@pytest.mark.parametrize(
    ("old", "new", "line", "sentence"),
    [
        ("roles =", "rolls =", 5, "[types.BACKUP] rolls is unknown; did you mean roles?"),
        ('"operator"', '"root"', 5, "[types.BACKUP] roles has the unknown role 'root'"),
        ("unlisted", "unlist", 1, "unlist is unknown; did you mean unlisted?"),
        ('"refuse"', '"deny"', 1, 'unlisted must be "allow" or "refuse"'),
        ('["/password"]', '["password"]', 8, "[types.BACKUP] secret must be JSON pointers"),
        ('["db-*"]', '"db-*"', 7, "[types.BACKUP] agents must be a list of texts"),
        ('["db-*"]', "[]", 7, "[types.BACKUP] agents must not be empty"),
        ('"prod"', "3", 10, "[types.BACKUP] labels must be a table of texts"),
        ('"object"', '"objet"', 14, "[types.db.restore] schema is not a valid schema"),
        ('"backup.json"', '"none.json"', 4, "[types.BACKUP] schema cannot read"),
        ('[types."db.restore"]', '[types."9"]', 13, "[types.9] must be named by a letter"),
        ("[services.bridge]", "[servers.bridge]", 16, "servers is unknown; did you mean services?"),
    ],
)
def test_a_fault_is_named_by_line_table_and_key(policy: Path, old: str, new: str, line: int, sentence: str) -> None:
    policy.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(ConfigurationError) as caught:
        load_policy(policy)
    assert caught.value.message.startswith(f"policy file {policy}, line {line}: {sentence}")
    assert caught.value.reason == "INVALID_POLICY"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"[types", "is not valid TOML"),
        (b"\xff", "is not valid TOML"),
        (b"a = " + b"[" * 5_000, "is not valid TOML"),
        (b"#" * 1_048_577, "at most 1,048,576 bytes"),
    ],
)
def test_an_unreadable_file_is_refused(policy: Path, content: bytes, sentence: str) -> None:
    policy.write_bytes(content)
    with pytest.raises(ConfigurationError, match=sentence):
        load_policy(policy)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        load_policy(tmp_path / "none.toml")


def test_a_schema_file_must_be_json(policy: Path) -> None:
    (policy.parent / "backup.json").write_text("{")
    with pytest.raises(ConfigurationError, match="line 4: .* is not valid JSON"):
        load_policy(policy)
