"""Enrolment tokens and the generations of agents in Valkey."""

from __future__ import annotations

import json
from typing import Final

from distributor.errors import AlreadyExists, PermissionDenied
from distributor.model.enrolment import Enrolment, EnrolmentToken, NewEnrolmentToken
from distributor.store.functions import Functions

_REFUSED: Final = "the enrolment token is unknown, used up, expired or revoked"


class ValkeyEnrolmentStore:
    """The EnrolmentStore port on Valkey. Safe for concurrent use on one event loop."""

    def __init__(self, functions: Functions, offline_after_ms: int) -> None:
        self._functions = functions
        self._offline_after_ms = offline_after_ms

    async def create(self, token: NewEnrolmentToken) -> int:
        labels = json.dumps(dict(token.labels))
        arguments = (token.token_id, token.digest, token.agents, labels, token.uses, token.lifetime_ms)
        return int(await self._functions.call("create_enrolment_token", arguments))

    async def token(self, token_id: str, digest: str) -> EnrolmentToken:
        reply = await self._functions.read("enrolment_token", [token_id, digest])
        if not reply:
            raise PermissionDenied(_REFUSED, reason="ENROLMENT_TOKEN_REFUSED", field="token")
        agents, labels, left, expires_ms = (part.decode() for part in reply)
        return EnrolmentToken(token_id, agents, json.loads(labels), int(left), int(expires_ms))

    async def enrol(self, enrolment: Enrolment) -> int:
        one = enrolment
        group, replace = ("1" if flag else "0" for flag in (one.group, one.replace))
        arguments = (one.token_id, one.token_digest, one.agent_id, group, replace, self._offline_after_ms)
        outcome, *rest = await self._functions.call("enrol", arguments)
        match outcome:
            case b"ok":
                return int(rest[0])
            case b"known":
                raise AlreadyExists(
                    f"agent '{one.agent_id}' is known already, and this token admits new agents only; make a token for "
                    f"it alone: distributor enrol-token {one.agent_id}",
                    reason="AGENT_ENROLLED",
                    field="agent_id",
                )
            case b"live":
                age_ms, peer = rest
                raise AlreadyExists(
                    f"another live agent is connected as '{one.agent_id}'{f' from {peer.decode()}' if peer else ''}, "
                    f"last seen {age_ms / 1000:.1f} s ago; enrol with another id, or take its place with --replace",
                    reason="AGENT_ID_TAKEN",
                    field="agent_id",
                )
            case _:
                raise PermissionDenied(_REFUSED, reason="ENROLMENT_TOKEN_REFUSED", field="token")
