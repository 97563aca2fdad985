from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from distributor.app.dev_credentials import dev_credentials
from distributor.cli.distributor import bridge, main
from distributor.cli.token import seconds_of
from distributor.errors import ConfigurationError
from distributor.identity.caller import CallerKind
from distributor.identity.roles import Role
from distributor.identity.token_keys import key_ring, shared_key
from distributor.identity.tokens import Token, TokenRules, TokenVerifier
from distributor.settings import BridgeSettings, ServerSettings

KEY = "a key for nothing but tests, of 32 bytes at least"


def test_a_token_that_a_bridge_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTRIBUTOR_BRIDGE_TOKEN_KEY", KEY)
    token = minted("--subject", "alice", "--role", "operator")
    assert (token.kind, token.subject) == (CallerKind.USER, "alice")
    assert token.roles == {Role.OPERATOR, Role.VIEWER}
    assert token.grants.everything


@pytest.mark.parametrize("name", ["DISTRIBUTOR_TOKEN_KEY", "DISTRIBUTOR_BRIDGE_TOKEN_KEY"])
def test_the_key_is_that_of_the_server_or_the_bridge(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, KEY)
    assert minted("--subject", "alice").roles == {Role.VIEWER}


@pytest.mark.parametrize(
    ("arguments", "kind", "name"),
    [
        (["--service", "bridge", "--role", "delegate"], CallerKind.SERVICE, "bridge"),
        (["--agent", "web-1"], CallerKind.AGENT, "web-1"),
    ],
)
def test_tokens_of_services_and_agents(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], kind: CallerKind, name: str
) -> None:
    monkeypatch.setenv("DISTRIBUTOR_TOKEN_KEY", KEY)
    token = minted(*arguments)
    assert (token.kind, token.subject) == (kind, name)


def test_without_a_key_of_the_settings_that_of_dev_signs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DISTRIBUTOR_DATA_DIR", str(tmp_path))
    made = dev_credentials(ServerSettings(data_dir=tmp_path), BridgeSettings(), "dev-agent")
    shown = CliRunner().invoke(main, ["token", "--agent=greeter"])
    assert shown.exit_code == 0, shown.output
    verifier = TokenVerifier(key_ring(made.server.shared_keys(), ()), TokenRules())
    token = verifier.verify(shown.stdout.strip())
    assert (token.kind, token.subject) == (CallerKind.AGENT, "greeter")


def test_grants_narrow_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTRIBUTOR_TOKEN_KEY", KEY)
    narrow = minted("--subject=a", "--on=web-*", "--on-label=site=berlin", "--type=PING", '--grants=[{"agents":["x"]}]')
    assert narrow.grants.permit("web-1", {"site": "berlin"}, "PING")
    assert narrow.grants.permit("x", {}, "EXEC")
    for agent_id, site, type_ in (("web-1", "rome", "PING"), ("db", "berlin", "PING"), ("web-1", "berlin", "EXEC")):
        assert not narrow.grants.permit(agent_id, {"site": site}, type_)
    assert not minted("--subject=a", "--grants=[]").grants.permit_agent("x", {})


def test_a_token_of_an_agent_has_its_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTRIBUTOR_TOKEN_KEY", KEY)
    token = minted("--agent=web-1", "--label=site=berlin", "--label=note=a=b")
    assert (token.subject, token.labels) == ("web-1", {"site": "berlin", "note": "a=b"})


def test_a_key_is_chosen_by_its_id(tmp_path: Path) -> None:
    keys = [tmp_path / name for name in ("new", "old")]
    for place, path in enumerate(keys):
        path.write_text(f"{place}" * 32)
    files = [f"--token-key-file={path}" for path in keys]
    old = shared_key("1" * 32)
    token = printed("--subject=a", f"--key-id={old.key_id}", *files)
    assert TokenVerifier(key_ring(["1" * 32], []), TokenRules()).verify(token).subject == "a"
    token = printed("--subject=a", *files)
    assert TokenVerifier(key_ring(["0" * 32], []), TokenRules()).verify(token).subject == "a"


def printed(*arguments: str) -> str:
    """What `distributor token` prints: the token alone."""
    shown = CliRunner().invoke(main, ["token", *arguments])
    assert shown.exit_code == 0, shown.output
    (line,) = shown.stdout.splitlines()
    return line


def minted(*arguments: str) -> Token:
    """What the token says that is printed."""
    return TokenVerifier(key_ring([KEY], []), TokenRules()).verify(printed(*arguments))


def test_the_key_may_be_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    assert minted("--subject", "alice", "--token-key-file", str(tmp_path / "key")).roles == {Role.VIEWER}


@pytest.mark.parametrize(
    ("text", "seconds"), [("1", 1), ("90s", 90), ("15m", 900), ("12h", 43_200), ("7d", 604_800), ("366d", 31_622_400)]
)
def test_lifetimes(text: str, seconds: int) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-1", "1w", "h", "1.5h", "367d", "9999999999"])
def test_lifetimes_that_are_none(text: str) -> None:
    with pytest.raises(ConfigurationError, match="--expires-in must be"):
        seconds_of(text)


def test_the_bridge_as_a_program_of_its_own_tells_mistakes_likewise() -> None:
    shown = CliRunner().invoke(bridge, ["--no-such"])
    assert (shown.exit_code, shown.stderr) == (2, "distributor: No such option '--no-such'.\n")


def test_help_and_version_are_data() -> None:
    for arguments in (["--help"], ["serve", "-h"], ["--version"]):
        shown = CliRunner().invoke(main, arguments)
        assert (shown.exit_code, shown.stderr) == (0, "")
        assert shown.stdout


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["token", "--subject", "a"], {}, "tokens are signed with the key of a server or bridge"),
        (["token", "--subject", "a"], {"TOKEN_KEY": "short"}, "must be at least 32 bytes, not 5"),
        (["token", "--subject", "a", "--token-key-file", "/nowhere"], {}, "cannot read /nowhere (token_key_file)"),
        (["token", "--subject", "a", "--expires-in", "soon"], {"TOKEN_KEY": KEY}, "--expires-in must be"),
        (["token", "--subject", ""], {"TOKEN_KEY": KEY}, "--subject must not be empty"),
        (["token", "--subject", "\udcff"], {"TOKEN_KEY": KEY}, "--subject must be UTF-8"),
        (["token", "--subject", "a", "--token-key-file", "/dev/null"], {}, "/dev/null (token_key_file) is empty"),
        (["bridge", "--public-key", __file__], {}, f"{__file__} (public_keys) is not a public key in PEM"),
        (["bridge"], {}, "no key to verify tokens: set token_key, token_key_file, public_keys or jwks_url"),
        (["bridge"], {"TOKEN_KEY": KEY}, "a bridge reads from the Valkey of its server: set valkey_url"),
        (["bridge"], {"TOKEN_KEY": KEY, "VALKEY_URL": "valkey://127.0.0.1:1"}, "cannot use the Valkey at"),
        (["bridge", "--public-key", "/nowhere"], {}, "cannot read /nowhere (public_keys)"),
        (["bridge", "--allow-origin", "foo"], {}, "distributor: --allow-origin must be an origin such as https://"),
        (["dev", "--bridge-listen=x", "--data-dir=/nowhere"], {}, "distributor: --bridge-listen must be host:port"),
        (["token"], {}, "distributor: Give one of --subject, --service and --agent."),
        (["token", "--subject=a", "--agent=b"], {}, "distributor: Give one of --subject, --service and --agent."),
        (["token", "--agent=a b"], {"TOKEN_KEY": KEY}, "--agent must"),
        (["token", "--agent=a", "--role=viewer"], {"TOKEN_KEY": KEY}, "--agent takes no roles and no grants"),
        (["token", "--subject=a", "--grants={"], {"TOKEN_KEY": KEY}, "--grants must be a list in JSON"),
        (["token", "--subject=a", "--grants={}"], {"TOKEN_KEY": KEY}, "--grants: grants must be a list"),
        (["token", "--subject=a", '--grants=[{"agent":[]}]'], {"TOKEN_KEY": KEY}, "grants[0].agent"),
        (["token", "--subject=a", "--on-label=x"], {"TOKEN_KEY": KEY}, "--on-label must be NAME=VALUE"),
        (["token", "--subject=a", "--on-label=x=1", "--on-label=x=2"], {"TOKEN_KEY": KEY}, "has the name 'x' twice"),
        (["token", "--subject=a", "--label=x=1"], {"TOKEN_KEY": KEY}, "--label is for tokens of agents"),
        (["token", "--agent=a", "--label=x"], {"TOKEN_KEY": KEY}, "--label must be NAME=VALUE, not 'x'"),
        (["token", "--agent=a", "--label=x=\n"], {"TOKEN_KEY": KEY}, "--label must be printable"),
        (["token", "--subject=a", "--key-id=x"], {"TOKEN_KEY": KEY}, "--key-id must be one of"),
        (["serve", "--no-such"], {}, "distributor: No such option '--no-such'."),
        (["serv"], {}, "distributor: No such command 'serv'. Did you mean 'serve'?"),
        (["bridge"], {"TOKEN_KEYS": KEY}, "unknown setting DISTRIBUTOR_BRIDGE_TOKEN_KEYS in the environment; did you"),
    ],
)
def test_mistakes_are_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], environment: dict[str, str], said: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(f"DISTRIBUTOR_BRIDGE_{name}", value)
    shown = CliRunner().invoke(main, arguments)
    assert shown.exit_code == 2
    (line,) = shown.stderr.splitlines()
    assert line.startswith("distributor: ")
    assert said in line
    assert not any(value and value in line for name, value in environment.items() if name == "TOKEN_KEY")
