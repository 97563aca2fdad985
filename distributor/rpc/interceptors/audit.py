"""Records calls and refusals in the audit trail, as one table says."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import replace
from enum import StrEnum
from typing import Any, Final, NamedTuple

from distributor.dispatch.audit_recorder import Audit
from distributor.dispatch.audited_callers import AuditedCallers, actor_of, refusal_of, via_of
from distributor.errors import DistributorError, InvalidArgument, Unavailable
from distributor.identity.permissions import RPCS, Need
from distributor.model.audit_entry import AuditActor, AuditEntry, AuditEvent, AuditOutcome
from distributor.observability.logging import get_logger
from distributor.rpc.current_caller import current_caller, host_of
from distributor.rpc.interceptors.wrapping import Context, Interceptor, short_name

logger = get_logger()


class Before(StrEnum):
    """Whether a call is recorded before it is carried out, as well as afterwards.

    `must`: it is refused if it cannot be recorded. `try`: it is carried out regardless.
    """

    NO = "no"
    TRY = "try"
    MUST = "must"


class AuditedMethod(NamedTuple):
    """How calls of a method are recorded. `entries` adds the agents and commands of a call to its entry."""

    event: AuditEvent
    entries: Callable[[AuditEntry, Any, Any], Iterable[AuditEntry]]
    before: Before = Before.NO


def _named(base: AuditEntry, request: Any, response: Any) -> Iterable[AuditEntry]:
    """One entry, with the agent id and command id of the request."""
    fields = request.DESCRIPTOR.fields_by_name
    command_id = request.command_id if "command_id" in fields else ""
    agent_id = request.agent_id if "agent_id" in fields and isinstance(request.agent_id, str) else ""
    agent_id = agent_id or _agent_of(response)
    yield replace(base, agent_id=agent_id, command_ids=(command_id,) if command_id else ())


def _agent_of(response: Any) -> str:
    command = getattr(response, "command", None)
    return getattr(command, "agent_id", "")


def _queued(base: AuditEntry, request: Any, response: Any) -> Iterable[AuditEntry]:
    if response is None:
        yield replace(base, agent_id=request.command.agent_id)
    else:
        yield replace(base, agent_id=request.command.agent_id, command_ids=(response.command.command_id,))


def _queued_together(base: AuditEntry, request: Any, response: Any) -> Iterable[AuditEntry]:
    """One entry for each agent, and for each reason for which commands were refused."""
    if response is None:
        yield replace(base, count=max(1, len(request.requests)))
        return
    ids: dict[tuple[str, str], list[str]] = {}
    for item, outcome in zip(request.requests, response.outcomes, strict=True):
        reason = outcome.error.reason if outcome.HasField("error") else ""
        # What is no id may be anything.
        agent_id = item.command.agent_id if outcome.error.code != InvalidArgument.code else ""
        ids.setdefault((agent_id, reason), []).append(outcome.command_id)
    for (agent_id, reason), command_ids in ids.items():
        done = AuditOutcome.FAILED if reason else AuditOutcome.SUCCESS
        known = () if reason else tuple(command_ids)
        yield replace(base, agent_id=agent_id, command_ids=known, count=len(command_ids), reason=reason, outcome=done)


def _retried(base: AuditEntry, request: Any, response: Any) -> Iterable[AuditEntry]:
    if request.dry_run:
        return
    if response is None:
        yield replace(base, command_ids=tuple(request.command_ids), count=max(1, len(request.command_ids)))
        return
    new = [one.new_command_id for one in response.commands if one.HasField("new_command_id")]
    yield replace(base, command_ids=tuple(new), count=max(1, len(new))).with_details(
        refused=len(response.commands) - len(new)
    )


def _stopped(base: AuditEntry, request: Any, response: Any) -> Iterable[AuditEntry]:
    yield base.with_details(scope="all" if request.scope.all else ",".join(request.scope.selectors))


def _resumed(base: AuditEntry, request: Any, response: Any) -> Iterable[AuditEntry]:
    scope = "all" if request.all else ",".join(request.selectors)
    yield base.with_details(scope=request.stop_id or scope)


def _read(base: AuditEntry, request: Any, response: Any) -> Iterable[AuditEntry]:
    yield base


def _failed(base: AuditEntry, request: Any, response: Any) -> Iterable[AuditEntry]:
    """Record only failures: the use case records successes, since only it knows the agent."""
    if response is None:
        yield base


def _enrolled(base: AuditEntry, request: Any, response: Any) -> Iterable[AuditEntry]:
    """The agent and, of the token that has admitted it, the id; never the secret."""
    (entry,) = _named(base, request, response)
    yield entry if response is None else entry.with_details(token_id=request.token.partition(".")[0])


def _minted(base: AuditEntry, request: Any, response: Any) -> Iterable[AuditEntry]:
    """The token's id, never the token."""
    token_id = response.token_id if response is not None else ""
    yield base.with_details(kind="enrolment", token_id=token_id, agents=request.agents, uses=request.count)


def _token_named(base: AuditEntry, request: Any, response: Any) -> Iterable[AuditEntry]:
    yield base.with_details(token_id=request.token_id)


def _service_named(base: AuditEntry, request: Any, response: Any) -> Iterable[AuditEntry]:
    yield base.with_details(service=request.service)


_AUDIT: Final = "/distributor.v1.AuditService/"
_ENROLMENT: Final = "/distributor.v1.EnrolmentService/"
_CREDENTIALS: Final = "/distributor.v1.CredentialService/"
_EMERGENCY: Final = "/distributor.v1.EmergencyService/"
_COMMANDS: Final = "/distributor.v1.CommandService/"

AUDITED: Final[Mapping[str, AuditedMethod]] = {
    f"{_COMMANDS}QueueCommand": AuditedMethod(AuditEvent.COMMAND_QUEUED, _queued),
    f"{_COMMANDS}QueueCommands": AuditedMethod(AuditEvent.COMMAND_QUEUED, _queued_together),
    f"{_COMMANDS}CancelCommand": AuditedMethod(AuditEvent.COMMAND_CANCELLED, _named),
    f"{_COMMANDS}RetryCommands": AuditedMethod(AuditEvent.COMMAND_RETRIED, _retried),
    f"{_COMMANDS}GetCommand": AuditedMethod(AuditEvent.COMMAND_READ, _named),
    f"{_COMMANDS}GetResult": AuditedMethod(AuditEvent.COMMAND_READ, _named),
    f"{_COMMANDS}WatchCommand": AuditedMethod(AuditEvent.COMMAND_READ, _named),
    # A trail that cannot be written must remain readable and verifiable.
    f"{_AUDIT}ListAuditEntries": AuditedMethod(AuditEvent.AUDIT_READ, _read, Before.TRY),
    f"{_AUDIT}ExportAudit": AuditedMethod(AuditEvent.AUDIT_READ, _read, Before.TRY),
    f"{_AUDIT}VerifyAudit": AuditedMethod(AuditEvent.AUDIT_READ, _read, Before.TRY),
    f"{_ENROLMENT}Enrol": AuditedMethod(AuditEvent.AGENT_ENROLLED, _enrolled),
    f"{_ENROLMENT}Renew": AuditedMethod(AuditEvent.AGENT_RENEWED, _failed),
    f"{_CREDENTIALS}CreateEnrolmentToken": AuditedMethod(AuditEvent.TOKEN_MINTED, _minted, Before.MUST),
    f"{_CREDENTIALS}RestoreAgent": AuditedMethod(AuditEvent.AGENT_RESTORED, _named, Before.MUST),
    f"{_CREDENTIALS}RestoreService": AuditedMethod(AuditEvent.SERVICE_RESTORED, _service_named, Before.MUST),
    # Stops and revocations must not wait until they are recorded.
    f"{_CREDENTIALS}RevokeAgent": AuditedMethod(AuditEvent.AGENT_REVOKED, _named, Before.TRY),
    f"{_CREDENTIALS}RevokeService": AuditedMethod(AuditEvent.SERVICE_REVOKED, _service_named, Before.TRY),
    f"{_CREDENTIALS}RevokeToken": AuditedMethod(AuditEvent.TOKEN_REVOKED, _token_named, Before.TRY),
    f"{_EMERGENCY}Stop": AuditedMethod(AuditEvent.EMERGENCY_STOPPED, _stopped, Before.TRY),
    f"{_EMERGENCY}Resume": AuditedMethod(AuditEvent.EMERGENCY_RESUMED, _resumed, Before.MUST),
}
"""By full name. Methods for admins that are not here are recorded as ADMIN_CALLED."""
_READING: Final = ("Get", "List", "Watch")


def audited(method: str) -> AuditedMethod | None:
    """How a method is recorded; None if it is not."""
    known = AUDITED.get(method)
    if known is None and RPCS.get(method) is Need.ADMIN:
        changes = not short_name(method).startswith(_READING)
        return AuditedMethod(AuditEvent.ADMIN_CALLED, _named, Before.MUST if changes else Before.NO)
    return known


class AuditInterceptor(Interceptor):
    """Records calls. Runs innermost, where requests and responses are not compressed.

    `CallAudit` records refusals, which end calls further out.
    """

    def __init__(self, audit: Audit) -> None:
        self._audit = audit

    def wrap_unary(self, method: str, behaviour: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        rule = audited(method)
        if rule is None:
            return behaviour

        async def call(request: Any, context: Context) -> Any:
            record = _Record(self._audit, rule, method, request, context)
            await record.begin()
            try:
                response = await behaviour(request, context)
            except Exception as error:
                record.failed(error)
                raise
            record.succeeded(response)
            return response

        return call

    def wrap_stream(
        self, method: str, behaviour: Callable[..., AsyncGenerator[Any, None]]
    ) -> Callable[..., AsyncGenerator[Any, None]]:
        rule = audited(method)
        if rule is None:
            return behaviour

        async def call(request: Any, context: Context) -> AsyncGenerator[Any, None]:
            record = _Record(self._audit, rule, method, request, context)
            await record.begin()
            first = True
            try:
                async with aclosing(behaviour(request, context)) as responses:
                    async for response in responses:
                        if first:
                            first = False
                            record.succeeded(response)
                        yield response
            except Exception as error:
                if first:
                    record.failed(error)
                raise

        return call


class _Record:
    """The entries of one call."""

    def __init__(self, audit: Audit, rule: AuditedMethod, method: str, request: Any, context: Context) -> None:
        self._audit = audit
        self._rule = rule
        self._request = request
        self._base = AuditEntry(rule.event, _actor(context), details=via_of(current_caller()))
        if rule.event in (AuditEvent.ADMIN_CALLED, AuditEvent.AUDIT_READ):
            self._base = self._base.with_details(method=short_name(method))

    async def begin(self) -> None:
        """Record the attempt, if the method is recorded before it is carried out. Raises Unavailable."""
        if self._rule.before is Before.NO:
            return
        for entry in self._rule.entries(self._base, self._request, None):
            attempt = replace(entry, outcome=AuditOutcome.ATTEMPT)
            try:
                await self._audit.write(attempt)
            except Unavailable as error:
                if self._rule.before is Before.MUST:
                    raise
                logger.error("acted before it could be recorded", what=entry.event.value, error=str(error))
                self._audit.note(attempt)

    def succeeded(self, response: Any) -> None:
        for entry in self._rule.entries(self._base, self._request, response):
            self._audit.note(entry)

    def failed(self, error: Exception) -> None:
        if refusal_of(error) is not None and self._rule.before is Before.NO:
            # Recorded as a refusal.
            return
        reason = error.reason if isinstance(error, DistributorError) else "INTERNAL"
        for entry in self._rule.entries(self._base, self._request, None):
            if isinstance(error, InvalidArgument):
                # What is no id may be anything.
                entry = replace(entry, agent_id="", command_ids=())
            self._audit.note(replace(entry, outcome=AuditOutcome.FAILED, reason=reason))


class CallAudit:
    """Records the callers that are admitted and the calls that are refused."""

    def __init__(self, callers: AuditedCallers) -> None:
        self._callers = callers

    def admitted(self) -> None:
        """Record the caller of the present call."""
        self._callers.admitted(current_caller(), time.monotonic())

    def ended(self, method: str, error: Exception, context: Context) -> None:
        """Record the error of the present call if it is a refusal."""
        self._callers.refused(error, current_caller(), host_of(context.peer()), short_name(method))


def _actor(context: Context) -> AuditActor:
    caller = current_caller()
    return actor_of(caller, "" if caller.address else host_of(context.peer()))
