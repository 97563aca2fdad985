"""Why a program cannot be started."""

from __future__ import annotations

import pytest

from distributor.agent.handlers.start_failure import why_not_found


@pytest.mark.parametrize("name", ["cd", "export", "source", "."])
def test_what_only_shells_can_do_is_named(name: str) -> None:
    assert why_not_found(name, None, "/nowhere") == (
        f"{name!r} is a command of shells, not a program; let a shell run it: sh -c '{name} …'"
    )
