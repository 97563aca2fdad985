"""Vets commands before anything is done with them: the policy of this host, and the signatures of senders.

A compromised server can send anything, so types, params and signatures are checked here again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

from distributor.agent.journal_entries import SeenSignature
from distributor.agent.refusals import refused
from distributor.identity.policy_source import PolicySource
from distributor.identity.signatures import SignatureRefused, TrustedSigners
from distributor.identity.signer_files import SignerFiles
from distributor.model.check_budget import CheckBudget, TooCostly, call_budget, quick_budget
from distributor.model.command import InvalidField
from distributor.model.command_type import NotPermitted
from distributor.model.control import CONTROL_TYPES
from distributor.tasks import LARGE_BYTES
from distributor.v1 import agent_gateway_pb2 as gateway
from distributor.v1 import command_pb2
from distributor.wire.json_values import plain_struct
from distributor.wire.secret_params import secret_steps
from distributor.wire.signed_command import signed_content

ALL: Final = "*"


class Verdict(NamedTuple):
    """What is known of a command before it is accepted. `checked_ms` is by this host's clock."""

    refusal: gateway.Refused | None = None
    signature: SeenSignature | None = None
    checked_ms: int = 0


UNVETTED: Final = Verdict()
NO_VERDICTS: Final[Sequence[Verdict]] = ()


@dataclass(frozen=True, slots=True)
class SignaturePolicy:
    """Whose signatures an agent accepts, and patterns of the types for which it requires one.

    `SignerFiles` are followed while the agent runs; `TrustedSigners` do not change.
    """

    trusted: TrustedSigners | SignerFiles
    required: tuple[str, ...] = (ALL,)

    def requires(self, command_type: str) -> bool:
        """Whether commands of a type must be signed. PING and STOP never must: they start nothing."""
        return command_type not in CONTROL_TYPES and any(fnmatchcase(command_type, one) for one in self.required)


class Vetting:
    """Vets the commands of one agent. Belongs to the connection's loop; large params are checked in threads."""

    def __init__(
        self,
        agent_id: str,
        labels: Mapping[str, str],
        policy: PolicySource | None = None,
        signatures: SignaturePolicy | None = None,
    ) -> None:
        self._agent_id = agent_id
        self._labels = labels
        self._policy = policy
        self._signatures = signatures

    async def follow(self) -> None:
        """Follow the policy file and the trusted keys until cancelled."""
        async with asyncio.TaskGroup() as following:
            if self._policy:
                following.create_task(self._policy.run(), name="policy file")
            if self._signatures and isinstance(self._signatures.trusted, SignerFiles):
                following.create_task(self._signatures.trusted.run(), name="trusted signers")

    async def verdicts(self, assignments: Iterable[gateway.Assignment]) -> list[Verdict]:
        """The verdict on each command, in order: ids are the server's choice, and may repeat."""
        budget = call_budget()
        return [await self._verdict(one.command, budget) for one in assignments]

    async def _verdict(self, command: command_pb2.Command, message: CheckBudget) -> Verdict:
        if command.params.ByteSize() <= LARGE_BYTES:
            with suppress(TooCostly):
                return self.verdict(command, quick_budget())
        return await asyncio.to_thread(self.verdict, command, CheckBudget(call=message))

    def verdict(self, command: command_pb2.Command, budget: CheckBudget | None = None) -> Verdict:
        """Vet one command. Takes up to a second for params that are made to be costly.

        Raises TooCostly if the check against a schema exceeds a `budget` that is not final.
        """
        now_ms = time.time_ns() // 1_000_000
        try:
            signature = self._verified(command, now_ms)
            self._check_type(command, budget or CheckBudget())
        except SignatureRefused as error:
            return Verdict(refused(gateway.REFUSAL_CODE_UNSUPPORTED, error.code, str(error)))
        except (NotPermitted, InvalidField) as error:
            return Verdict(refused(gateway.REFUSAL_CODE_UNSUPPORTED, error.reason.lower(), str(error)))
        return Verdict(None, signature, now_ms)

    def _verified(self, command: command_pb2.Command, now_ms: int) -> SeenSignature | None:
        if self._signatures is None or command.type in CONTROL_TYPES:
            return None
        if not command.HasField("signature"):
            if self._signatures.requires(command.type):
                raise SignatureRefused("signature_missing", f"this agent starts no {command.type} without a signature")
            return None
        content = signed_content(command)
        self._signatures.trusted.verify(content, command.signature.value, now_ms)
        if command.agent_id != self._agent_id:
            raise SignatureRefused("signature_invalid", "the signature is for another agent")
        return SeenSignature(content.key_id, content.signature_id, command.command_id, content.expires_ms)

    def _check_type(self, command: command_pb2.Command, budget: CheckBudget) -> None:
        types = self._policy.current.types if self._policy else None
        found = types.find(command.type) if types else None
        if found is None:
            return
        found.check_agent(self._agent_id, self._labels)
        if found.schema is not None:
            secrets = (*found.secret_steps, *secret_steps(command))
            found.schema.check_within(budget, plain_struct(command.params), secrets)
