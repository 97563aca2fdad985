from __future__ import annotations

import pytest

from distributor.model.command import InvalidField
from distributor.model.command_type import ALL_TYPES, CommandType, CommandTypes, NotPermitted
from distributor.model.json_pointer import covered, parse_pointer, parse_pointers

BACKUP = CommandType(
    "BACKUP", roles=frozenset({"operator", "admin"}), callers=("deploy-*",), agents=("db-*",), labels={"env": "prod"}
)


def test_everything_that_is_set_must_hold_for_the_sender() -> None:
    BACKUP.check_sender("deploy-1", {"operator"})
    for principal, roles in (("deploy-1", {"viewer"}), ("alice", {"operator"}), ("deploy-1", set[str]())):
        with pytest.raises(NotPermitted) as caught:
            BACKUP.check_sender(principal, roles)
        assert caught.value.reason == "SENDER_NOT_PERMITTED"


def test_everything_that_is_set_must_hold_for_the_agent() -> None:
    BACKUP.check_agent("db-1", {"env": "prod", "zone": "a"})
    for agent_id, labels in (("web-1", {"env": "prod"}), ("db-1", {"env": "test"}), ("db-1", {}), ("db-1", None)):
        with pytest.raises(NotPermitted) as caught:
            BACKUP.check_agent(agent_id, labels)
        assert caught.value.reason == "AGENT_NOT_PERMITTED"
        assert caught.value.field == "command.agent_id"


def test_what_is_not_set_does_not_restrict() -> None:
    CommandType("ANY").check_sender("", ())
    CommandType("ANY").check_agent("x", None)


def test_unlisted_types_are_allowed_unless_refused() -> None:
    assert ALL_TYPES.find("EXEC") is None
    strict = CommandTypes({"BACKUP": BACKUP}, refuse_unlisted=True)
    assert strict.find("BACKUP") is BACKUP
    with pytest.raises(NotPermitted) as caught:
        strict.find("EXEC")
    assert caught.value.reason == "TYPE_NOT_REGISTERED"


def test_stop_and_ping_reach_agents_although_unlisted_types_are_refused() -> None:
    strict = CommandTypes({}, refuse_unlisted=True)
    assert strict.find("STOP") is strict.find("PING") is None


def test_pointers_are_unescaped() -> None:
    assert parse_pointer("/auth/a~1b~0c", "secret") == ("auth", "a/b~c")


@pytest.mark.parametrize("pointer", ["", "password", "/", "/a//b", "/a~2", "/" + "a" * 256, "/a" * 33])
def test_invalid_pointers_are_refused(pointer: str) -> None:
    with pytest.raises(InvalidField) as caught:
        parse_pointer(pointer, "secret")
    assert caught.value.field == "secret"


def test_the_number_of_pointers_is_bounded() -> None:
    with pytest.raises(InvalidField, match="the limit is 32"):
        parse_pointers(["/a"] * 33, "secret")


def test_a_secret_covers_what_is_in_it() -> None:
    secrets = [("auth",), ("argv", "2")]
    assert covered(["auth", "user"], secrets) == 1
    assert covered(["argv", 2], secrets) == 2
    assert covered(["argv"], secrets) is None
    assert covered(["argv", 1], secrets) is None
