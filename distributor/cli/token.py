"""`distributor token`: mint a token for a user, a service or an agent."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from distributor.app.dev_credentials import DEV_FOLDER, DEV_KEY
from distributor.cli.label_options import label_pairs
from distributor.errors import ConfigurationError, InvalidArgument
from distributor.identity.caller import CallerKind
from distributor.identity.grant_claims import grants_of
from distributor.identity.grants import EVERYTHING, Grants
from distributor.identity.roles import Role
from distributor.identity.token_keys import KeyRing, TokenKey, key_ring
from distributor.identity.tokens import MAX_SUBJECT_CHARACTERS, NewToken, TokenRules, mint
from distributor.model.command import InvalidField, check_agent_id
from distributor.model.labels import credential_labels
from distributor.settings import load_bridge_settings, load_server_settings
from distributor.settings.tokens import TokenSettings

MAX_DAYS: Final = 366
_LIFETIME: Final = re.compile(r"([0-9]{1,9})([smhd]?)")
_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}


class TokenRequest(NamedTuple):
    """The claims of the token. `agents`, `labels` and `types` form one grant; `grants` are further ones, in JSON.

    `own_labels` are those of an agent.
    """

    subject: str
    lifetime: str
    kind: CallerKind = CallerKind.USER
    roles: Sequence[str] = ()
    agents: Sequence[str] = ()
    labels: Sequence[str] = ()
    types: Sequence[str] = ()
    grants: str = ""
    key_id: str = ""
    own_labels: Sequence[str] = ()


def token_settings(config: Path | None, key_files: Sequence[Path]) -> TokenSettings:
    """The settings of the server if they have a key that signs tokens, else those of the bridge.

    Without any, the key that `distributor dev` has made for the same data folder.
    """
    flags = {"token_key_file": "--token-key-file"}
    given = list(key_files) or None
    server = load_server_settings(config, flags, token_key_file=given)
    if server.token_key_file or server.token_key.get_secret_value():
        return server
    bridge = load_bridge_settings(config, flags)
    dev_key = server.data_dir / DEV_FOLDER / DEV_KEY
    if not bridge.verifies_tokens and dev_key.exists():
        return server.model_copy(update={"token_key_file": (dev_key,)})
    return bridge


def token_for(settings: TokenSettings, wanted: TokenRequest) -> str:
    """A token signed with a shared key of these settings. Raises ConfigurationError."""
    key = _signing_key(key_ring(settings.shared_keys(), ()), wanted.key_id)
    _check_subject(wanted)
    now = int(time.time())
    expires = now + seconds_of(wanted.lifetime)
    roles, grants, labels = _roles(wanted), _grants(wanted), _own_labels(wanted)
    new = NewToken(wanted.kind, wanted.subject, now, expires, roles, grants, labels)
    return mint(key, TokenRules(settings.token_issuer, settings.token_audience), new)


def _signing_key(ring: KeyRing, key_id: str) -> TokenKey:
    if ring.signing is None:
        raise ConfigurationError(
            "tokens are signed with the key of a server or bridge: set token_key or token_key_file, or "
            "DISTRIBUTOR_TOKEN_KEY or DISTRIBUTOR_BRIDGE_TOKEN_KEY; generate one with openssl rand -hex 32",
            field="token_key",
        )
    if not key_id:
        return ring.signing
    for key in ring.keys:
        if key.key_id == key_id:
            return key
    known = ", ".join(key.key_id for key in ring.keys)
    raise ConfigurationError(f"--key-id must be one of {known}, not '{key_id}'", field="key_id")


def _check_subject(wanted: TokenRequest) -> None:
    """Raise ConfigurationError for a subject that every verifier would refuse."""
    subject, problem = wanted.subject, ""
    if not subject:
        problem = "must not be empty"
    elif any("\ud800" <= character <= "\udfff" for character in subject):
        problem = "must be UTF-8"
    elif len(subject) > MAX_SUBJECT_CHARACTERS or not subject.isprintable():
        problem = f"must be at most {MAX_SUBJECT_CHARACTERS} printable characters"
    if problem:
        raise ConfigurationError(f"--subject {problem}", field="subject")
    if wanted.kind is CallerKind.AGENT:
        try:
            check_agent_id(subject, "--agent")
        except InvalidField as error:
            raise ConfigurationError(str(error), field="agent") from error


def _roles(wanted: TokenRequest) -> Sequence[Role]:
    if wanted.kind is CallerKind.AGENT:
        if wanted.roles or wanted.grants or wanted.agents or wanted.labels or wanted.types:
            raise ConfigurationError("--agent takes no roles and no grants: the token is for its stream alone")
        return ()
    return [Role(role) for role in wanted.roles] or [Role.VIEWER]


def _grants(wanted: TokenRequest) -> Grants:
    try:
        grants: list[Any] = json.loads(wanted.grants) if wanted.grants else []
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"--grants must be a list in JSON: {error}", field="grants") from error
    narrowed: dict[str, Any] = {}
    if wanted.agents:
        narrowed["agents"] = list(wanted.agents)
    if wanted.types:
        narrowed["types"] = list(wanted.types)
    if wanted.labels:
        narrowed["labels"] = label_pairs(wanted.labels, "--on-label")
    if not narrowed and not wanted.grants:
        return EVERYTHING
    try:
        return grants_of([*grants, narrowed] if narrowed and isinstance(grants, list) else grants)
    except InvalidArgument as error:
        raise ConfigurationError(f"--grants: {error}", field="grants") from error


def _own_labels(wanted: TokenRequest) -> Mapping[str, str]:
    if wanted.own_labels and wanted.kind is not CallerKind.AGENT:
        raise ConfigurationError("--label is for tokens of agents; --on-label narrows a grant", field="labels")
    try:
        return credential_labels(label_pairs(wanted.own_labels), "--label")
    except InvalidField as error:
        raise ConfigurationError(str(error), field="labels") from error


def seconds_of(lifetime: str, most_days: int = MAX_DAYS) -> int:
    """Convert "90", "90s", "15m", "12h" or "7d" to seconds. Raises ConfigurationError."""
    match = _LIFETIME.fullmatch(lifetime)
    seconds = int(match[1]) * _UNITS[match[2]] if match else 0
    if not 1 <= seconds <= most_days * _UNITS["d"]:
        raise ConfigurationError(
            f"--expires-in must be 1 s to {most_days} d, such as 90s, 15m, 12h or 7d, not '{lifetime}'",
            field="expires_in",
        )
    return seconds
