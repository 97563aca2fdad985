"""`distributor conformance` as a tester runs it."""

from __future__ import annotations

import json
import os
import socket
import sys

from tests.support.conformance import PYTHON_AGENT
from tests.support.free_port import free_port
from tests.support.launched_server import launched_program, launched_server
from tests.support.source_tree import ROOT

ONLY = ("conformance", "--listen=127.0.0.1:0", "--patience=30", "--only=valid-hello", "--only=run-a-command")


async def test_passing_scenarios_are_listed_with_their_rules() -> None:
    async with launched_server(*ONLY, "--", *PYTHON_AGENT) as kit:
        assert await kit.ended() == 0
        assert sorted(kit.stdout[:-1]) == [
            "passed  run-a-command (docs/protocol.md, Commands)",
            "passed  valid-hello (docs/protocol.md, Hello)",
        ]
        assert kit.stdout[-1] == "2 scenarios: 2 passed, 0 failed, 0 skipped"
        assert kit.stderr == []


async def test_a_failed_scenario_says_what_was_expected_and_what_came() -> None:
    agent = (sys.executable, "-c", "print('no agent here')")
    async with launched_server(*ONLY, "-o", "json", "--", *agent) as kit:
        assert await kit.ended() == 1
        first, second = json.loads("\n".join(kit.stdout))
    assert (first["scenario"], first["rule"], first["verdict"]) == ("valid-hello", "Hello", "failed")
    assert first["expected"] == "a stream with a Hello"
    assert first["came"] == "no Hello; the agent ended with 0: no agent here"
    assert second["scenario"] == "run-a-command"


async def test_an_agent_that_the_tester_starts_plays_all_scenarios_in_turn() -> None:
    with free_port() as port:
        address = f"127.0.0.1:{port}"
        names = ("valid-hello", "run-a-command", "delivered-again-when-done", "killed-when-done")
        only = [f"--only={name}" for name in names]
        async with launched_server("conformance", f"--listen={address}", "--patience=30", *only) as kit:
            await kit.line(f"Listening on {address}.")
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            agent = [word.replace("{address}", address) for word in PYTHON_AGENT]
            async with launched_program(*agent, environment=environment):
                assert await kit.ended() == 0
            assert kit.stdout[-1] == "4 scenarios: 3 passed, 0 failed, 1 skipped"
            assert "        came: the kit must start the agent" in kit.stdout


async def test_mistakes_are_usage_errors() -> None:
    async with launched_server("conformance", "--only=no-such-scenario") as kit:
        assert await kit.ended() == 2
        assert kit.stderr == ["distributor: there is no scenario no-such-scenario; --list shows them"]
    async with launched_server(*ONLY, "--", "no-such-program") as kit:
        assert await kit.ended() == 2
        assert kit.stderr == ["distributor: there is no program no-such-program"]


async def test_an_address_that_cannot_be_listened_on_is_a_usage_error() -> None:
    for listen, program, complaint in (
        ("nonsense", PYTHON_AGENT, "--listen must be host:port with a port of 0 to 65535, such as 127.0.0.1:50051"),
        ("127.0.0.1:0", (), "without the agent's command line, --listen needs a port to which you let it connect"),
    ):
        async with launched_server("conformance", f"--listen={listen}", "--", *program) as kit:
            assert await kit.ended() == 2
            assert kit.stderr == [f"distributor: {complaint}"]
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        async with launched_server("conformance", f"--listen={address}", "--", *PYTHON_AGENT) as kit:
            assert await kit.ended() == 2
            assert kit.stderr == [
                f"distributor: cannot listen on {address} (--listen): Address already in use;"
                " stop the program that uses it, or set another address"
            ]


async def test_an_agent_that_crashes_is_named() -> None:
    crash = "import sys; sys.exit('out of luck')"
    async with launched_server(
        "conformance", "--listen=127.0.0.1:0", ONLY[-1], "--", sys.executable, "-c", crash
    ) as kit:
        assert await kit.ended() == 1
        assert "        came: no Hello; the agent ended with 1: out of luck" in kit.stdout
        assert kit.stdout[-1] == "1 scenario: 0 passed, 1 failed, 0 skipped"


async def test_the_scenarios_can_be_listed() -> None:
    async with launched_server("conformance", "--list") as kit:
        assert await kit.ended() == 0
        assert kit.stdout[0].split() == ["SCENARIO", "RULE", "EXPECTED"]
        assert any(line.startswith("stale-heartbeat ") for line in kit.stdout)
