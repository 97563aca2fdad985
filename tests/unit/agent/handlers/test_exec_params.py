from __future__ import annotations

from typing import Any

import pytest

from distributor.agent.command_context import CommandFailed
from distributor.agent.handlers.exec_params import ExecParams, read_params


def test_everything_given() -> None:
    params: dict[str, Any] = {"argv": ["a", "b"], "env": {"X": "1"}, "cwd": "/", "stdin": "é"}
    assert read_params(params, guarded=False) == ExecParams(("a", "b"), {"X": "1"}, "/", "é".encode())


def test_only_argv_is_needed() -> None:
    assert read_params({"argv": ["a"]}, guarded=True) == ExecParams(("a",), {}, None, None)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "params.argv must be a list of at least one word"),
        ({"argv": []}, "params.argv must be a list of at least one word"),
        ({"argv": "ls -l"}, "params.argv must be a list of at least one word"),
        ({"argv": ["ls", 1]}, "params.argv[1] must be text"),
        ({"argv": [""]}, "params.argv[0] must name a program"),
        ({"argv": ["ls", "a\0b"]}, "params.argv[1] must not hold a NUL character"),
        ({"argv": ["ls"], "env": ["A=1"]}, "params.env must be an object of names and texts"),
        ({"argv": ["ls"], "env": {"A": 1}}, "params.env.A must be text"),
        ({"argv": ["ls"], "env": {"A=B": "1"}}, "params.env has a name that is empty or holds = or NUL"),
        ({"argv": ["ls"], "env": {"": "1"}}, "params.env has a name that is empty or holds = or NUL"),
        ({"argv": ["ls"], "cwd": "/nowhere/at/all"}, "params.cwd must be a directory on this host"),
        ({"argv": ["ls"], "cwd": 1}, "params.cwd must be text"),
        ({"argv": ["ls"], "stdin": 1}, "params.stdin must be text"),
        ({"argv": ["ls"], "shell": True}, "params.shell is not known, EXEC takes argv, env, cwd, stdin"),
    ],
)
def test_each_mistake_is_named(params: dict[str, Any], message: str) -> None:
    with pytest.raises(CommandFailed) as caught:
        read_params(params, guarded=False)
    assert (caught.value.code, caught.value.message) == ("invalid_params", message)


@pytest.mark.parametrize("name", ["LD_PRELOAD", "LD_LIBRARY_PATH", "DYLD_INSERT_LIBRARIES"])
def test_loader_variables_are_refused_where_only_some_programs_are_allowed(name: str) -> None:
    params: dict[str, Any] = {"argv": ["ls"], "env": {name: "x"}}
    assert read_params(params, guarded=False).env == {name: "x"}
    with pytest.raises(CommandFailed, match=f"params.env.{name} may not be set"):
        read_params(params, guarded=True)
