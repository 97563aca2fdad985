from __future__ import annotations

import pytest

from distributor.errors import DistributorError, PermissionDenied, Unauthenticated
from distributor.identity.caller import ANYONE, Caller, CallerKind
from distributor.identity.permissions import Need, check_permitted
from distributor.identity.roles import Role
from tests.support.known_callers import ADMIN, AGENT, OPERATOR, VIEWER, user

DELEGATE = user("bridge", Role.DELEGATE)
NOBODY = Caller(CallerKind.USER, "nobody")


def refusal(caller: Caller | None, need: Need) -> type[DistributorError] | None:
    try:
        check_permitted(caller, need, "this")
    except DistributorError as error:
        return type(error)
    return None


@pytest.mark.parametrize(
    ("need", "permitted"),
    [
        (Need.NOTHING, {"nothing", "nobody", "delegate", "agent", "viewer", "operator", "admin"}),
        (Need.ENROLMENT, {"nothing", "nobody", "delegate", "agent", "viewer", "operator", "admin"}),
        (Need.CALLER, {"nobody", "delegate", "agent", "viewer", "operator", "admin"}),
        (Need.AGENT, {"agent"}),
        (Need.VIEWER, {"viewer", "operator", "admin"}),
        (Need.OPERATOR, {"operator", "admin"}),
        (Need.ADMIN, {"admin"}),
        (Need.DELEGATE, {"delegate"}),
    ],
)
def test_who_meets_each_need(need: Need, permitted: set[str]) -> None:
    callers = {
        "nothing": None,
        "nobody": NOBODY,
        "delegate": DELEGATE,
        "agent": AGENT,
        "viewer": VIEWER,
        "operator": OPERATOR,
        "admin": ADMIN,
    }
    assert {name for name, caller in callers.items() if refusal(caller, need) is None} == permitted
    assert refusal(None, need) in (None, Unauthenticated)
    assert refusal(NOBODY, need) in (None, PermissionDenied)


@pytest.mark.parametrize("need", list(Need))
def test_everyone_may_do_everything_while_authentication_is_off(need: Need) -> None:
    assert refusal(ANYONE, need) is None


def test_a_refusal_names_the_role_and_the_caller() -> None:
    with pytest.raises(PermissionDenied, match="cancelling needs the role operator, and vera does not have it"):
        check_permitted(VIEWER, Need.OPERATOR, "cancelling")
