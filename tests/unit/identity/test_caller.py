from __future__ import annotations

from distributor.identity.caller import ANYONE, Caller, CallerKind
from distributor.identity.roles import Role, with_included
from distributor.model.requester import Requester


def test_admins_and_operators_have_the_roles_below_theirs_and_delegates_none() -> None:
    assert with_included([Role.ADMIN]) == {Role.ADMIN, Role.OPERATOR, Role.VIEWER}
    assert with_included([Role.OPERATOR]) == {Role.OPERATOR, Role.VIEWER}
    assert with_included([Role.DELEGATE]) == {Role.DELEGATE}
    assert with_included([Role.DELEGATE, Role.VIEWER]) == {Role.DELEGATE, Role.VIEWER}
    assert with_included([]) == frozenset()


def test_the_principal_of_a_delegate_is_its_user() -> None:
    bridge = Caller(CallerKind.SERVICE, "bridge", on_behalf_of="alice")
    alice = Caller(CallerKind.USER, "alice")
    assert bridge.principal == alice.principal == "user:alice"
    assert Caller(CallerKind.SERVICE, "alice").principal != alice.principal
    assert bridge.requester() == Requester("service", "bridge", "alice", "")
    assert str(bridge) == "bridge for alice"


def test_an_unknown_caller_leaves_no_requester() -> None:
    assert not ANYONE.known
    assert ANYONE.requester() is None
