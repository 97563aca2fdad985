"""The conformance kit plays a server over TLS that wants a token."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner

from distributor.cli import distributor
from distributor.cli.conformance_tls import CA_FILE, TOKEN_FILE, served_tls
from distributor.conformance.catalogue import CHAPTERS, SCENARIOS
from distributor.conformance.scenario_run import KitOptions, run_scenarios
from distributor.conformance.score import Score, Verdict
from tests.support.certificates import CertificateMaker
from tests.support.conformance import PYTHON_AGENT, shortcomings
from tests.support.free_port import free_port
from tests.support.waiting import PATIENCE_SECONDS

HELLO: Final = next(one for one in SCENARIOS if one.name == "valid-hello")
TRUSTING: Final = (*PYTHON_AGENT, "--tls-ca={ca}", "--token-file={token}")


async def scores(folder: Path, *program: str, patience: float = PATIENCE_SECONDS, hello: bool = True) -> list[Score]:
    options = KitOptions(program=program, patience=patience, tls=served_tls(folder, "127.0.0.1"))
    scenarios = [HELLO] if hello else CHAPTERS["hello"]
    return await run_scenarios(scenarios, options, lambda score: None)


async def test_the_agent_passes_over_tls(tmp_path: Path) -> None:
    assert not shortcomings(await scores(tmp_path, *TRUSTING, hello=False))


async def test_the_agent_in_node_passes_over_tls(node_agent: tuple[str, ...], tmp_path: Path) -> None:
    assert not shortcomings(await scores(tmp_path, *node_agent, "--ca={ca}", "--token-file={token}"))


async def test_an_agent_without_the_token_is_refused(tmp_path: Path) -> None:
    (score,) = await scores(tmp_path, *PYTHON_AGENT, "--tls-ca={ca}", patience=5)
    assert score.verdict is Verdict.FAILED
    assert "a stream without the token that --tls wrote was refused (CREDENTIALS_REQUIRED)" in score.came


async def test_an_agent_with_another_token_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.token").write_text("another-token\n")
    other = f"--token-file={tmp_path / 'other.token'}"
    (score,) = await scores(tmp_path, *PYTHON_AGENT, "--tls-ca={ca}", other, patience=5)
    assert score.verdict is Verdict.FAILED
    assert "(TOKEN_REFUSED)" in score.came


@pytest.mark.parametrize("trust", ["nothing", "another CA"])
async def test_an_agent_that_does_not_trust_the_ca_does_not_connect(tmp_path: Path, trust: str) -> None:
    (tmp_path / "other.pem").write_bytes(CertificateMaker("another CA").pem)
    options = [f"--tls-ca={tmp_path / 'other.pem'}", "--token-file={token}"] if trust == "another CA" else []
    (score,) = await scores(tmp_path, *PYTHON_AGENT, *options, patience=5)
    assert score.verdict is Verdict.FAILED
    assert "no Hello within" in score.came
    assert "without the token" not in score.came


def test_the_command_plays_over_tls_beyond_loopback_too(tmp_path: Path) -> None:
    program = [*TRUSTING[:2], "--server=127.0.0.1:{port}", *TRUSTING[3:]]
    with free_port() as port:
        words = [word.replace("{port}", str(port)) for word in program]
        command = ["conformance", f"--tls={tmp_path}", f"--listen=0.0.0.0:{port}", "--only=valid-hello", "--", *words]
        done = CliRunner().invoke(distributor.main, command)
    assert done.exit_code == 0, done.output
    assert "1 scenario: 1 passed" in done.output


def test_each_run_has_a_ca_and_a_token_of_its_own(tmp_path: Path) -> None:
    first = served_tls(tmp_path, "127.0.0.1")
    before = (tmp_path / CA_FILE).read_bytes()
    second = served_tls(tmp_path, "127.0.0.1")
    assert (tmp_path / CA_FILE).read_bytes() != before
    assert first.token != second.token
    assert (tmp_path / TOKEN_FILE).read_text() == f"{second.token}\n"
    assert (tmp_path / TOKEN_FILE).stat().st_mode & 0o777 == 0o600
    assert second.token not in repr(second)
