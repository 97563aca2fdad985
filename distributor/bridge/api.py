"""The read-only JSON API: commands, output and agents, for callers with the role viewer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from distributor.bridge.api_errors import error_response
from distributor.bridge.audit_notes import AuditNotes
from distributor.bridge.command_calls import CommandCalls
from distributor.bridge.credentials import Credential, CredentialCheck, address_of
from distributor.bridge.dashboard import Change
from distributor.bridge.store_view import StoreView, dashboard_command
from distributor.bridge.stored_output import stored_output
from distributor.bridge.user_limits import UNLIMITED, UserLimits
from distributor.dispatch.ports import OutputLog
from distributor.errors import DistributorError, InvalidArgument, NotFound, Unavailable
from distributor.identity.permissions import ROUTES, check_permitted
from distributor.model.audit_filter import AuditFilter
from distributor.model.command import COMMAND_TYPE_PATTERN, InvalidField, check_agent_id, check_command_id, shown
from distributor.model.dashboard_event import DashboardEventKind
from distributor.model.delivery import OutputStream
from distributor.model.lifecycle import CommandStatus
from distributor.model.listing import CommandFilter
from distributor.wire.audit_documents import entry_document
from distributor.wire.documents import Document, agent_document, command_document, result_document

DEFAULT_PAGE: Final = 50
MAX_PAGE: Final = 200
_AUDIT_PARAMETERS: Final = frozenset(
    {"actor", "agent", "command", "type", "outcome", "since", "until", "pageSize", "pageToken"}
)
_MAX_MS: Final = 1 << 53
_PARAMETERS: Final = frozenset({"agent", "status", "type", "since", "until", "pageSize", "pageToken"})
_REQUEST_FIELDS: Final = (
    "params",
    "timeLimitSeconds",
    "idleLimitSeconds",
    "queueTtlSeconds",
    "offline",
    "maxRuns",
    "maxRunsByReason",
    "retryOf",
    "slots",
    "progressTime",
    "attempts",
    "secretParams",
    "signedBy",
    "lateResult",
)

Handler = Callable[[Request, Credential], Awaitable[Response]]


class Api:
    """The routes under /api."""

    def __init__(
        self,
        view: StoreView,
        output: OutputLog,
        calls: CommandCalls,
        credentials: CredentialCheck,
        notes: AuditNotes,
        users: UserLimits = UNLIMITED,
    ) -> None:
        self._users = users
        self._notes = notes
        self._view = view
        self._output = output
        self._calls = calls
        self._credentials = credentials

    def routes(self) -> list[Route]:
        """The routes to mount."""
        return [
            self._route("/api/commands", self._commands),
            self._route("/api/commands/{command_id}", self._command),
            self._route("/api/commands/{command_id}/output", self._stored_output),
            self._route("/api/agents", self._agents),
            self._route("/api/audit", self._audit),
            self._route("/api/{rest:path}", self._not_found),
        ]

    async def _commands(self, request: Request, credential: Credential) -> Response:
        size = _number(request, "pageSize", 1, MAX_PAGE)
        page = await self._view.page(
            credential.caller,
            _query(request),
            request.query_params.get("pageToken", ""),
            size if size is not None else DEFAULT_PAGE,
        )
        return JSONResponse({"commands": page.documents, "nextPageToken": page.cursor})

    async def _command(self, request: Request, credential: Credential) -> Response:
        command_id = request.path_params["command_id"]
        check_command_id(command_id, "commandId")
        change = await self._shown(credential, command_id)
        result = (await self._view.results([change.state])).get(command_id)
        if result is not None:
            self._notes.read(DashboardEventKind.RESULT_READ, credential.caller, command_id)
        return JSONResponse(
            {
                "command": dashboard_command(change.state, result, change.agent_away_since_ms)
                | await self._request_fields(command_id, credential),
                "result": result_document(result) if result else None,
            }
        )

    async def _shown(self, credential: Credential, command_id: str) -> Change:
        (change,) = await self._view.read(credential.caller, [command_id])
        if change is None:
            raise NotFound(f"command {command_id} does not exist or is no longer stored", field="commandId")
        return change

    async def _request_fields(self, command_id: str, credential: Credential) -> Document:
        """The fields that only the server has; null while it is unavailable, so that the rest can still be served."""
        try:
            async with self._calls.of_user(lambda: credential.token, credential.caller.address) as calls:
                document = command_document(await calls.get(command_id))
        except Unavailable:
            return dict.fromkeys(_REQUEST_FIELDS)
        return {name: document[name] for name in _REQUEST_FIELDS}

    async def _stored_output(self, request: Request, credential: Credential) -> Response:
        command_id = request.path_params["command_id"]
        check_command_id(command_id, "commandId")
        stream = request.query_params.get("stream", "")
        if stream and stream not in set(OutputStream):
            raise _invalid("stream", f"stream must be stdout or stderr, not {shown(stream)}")
        await self._shown(credential, command_id)
        streams = frozenset({OutputStream(stream)} if stream else OutputStream)
        begin, pieces = await stored_output(self._output, command_id, streams)
        self._notes.read(DashboardEventKind.OUTPUT_READ, credential.caller, command_id)
        return StreamingResponse(
            pieces,
            media_type="application/octet-stream",
            headers={"Content-Disposition": "attachment", "X-Output-Offset": str(begin)},
        )

    async def _agents(self, _: Request, credential: Credential) -> Response:
        agents = await self._view.visible_agents(credential.caller)
        return JSONResponse({"agents": [agent_document(agent) for agent in agents]})

    async def _audit(self, request: Request, credential: Credential) -> Response:
        """A page of the audit trail. The server reads it, and records who has."""
        wanted, size = _audit_filter(request), _number(request, "pageSize", 1, MAX_PAGE)
        token = request.query_params.get("pageToken", "")
        async with self._calls.of_user(lambda: credential.token, credential.caller.address) as calls:
            page = await calls.audit_page(wanted, token, size if size is not None else DEFAULT_PAGE)
        entries = [entry_document(one) for one in page.entries]
        return JSONResponse({"entries": entries, "nextPageToken": page.next_token})

    async def _not_found(self, request: Request, _: Credential) -> Response:
        raise NotFound(f"there is no path {shown(request.url.path)}")

    def _route(self, path: str, handler: Handler) -> Route:
        async def authorized(request: Request) -> Response:
            try:
                credential = self._admitted(request, path)
                return await handler(request, credential)
            except InvalidField as error:
                return error_response(InvalidArgument(str(error), field=error.field, reason=error.reason))
            except DistributorError as error:
                return error_response(error)

        return Route(path, authorized, methods=["GET"])

    def _admitted(self, request: Request, path: str) -> Credential:
        user = ""
        try:
            credential = self._credentials.of_request(request)
            user = credential.caller.subject
            check_permitted(credential.caller, ROUTES[path], f"GET {path}")
            self._users.check_message(credential.caller)
        except DistributorError as error:
            self._notes.refused(error, path, user, address_of(request))
            raise
        return credential


def _query(request: Request) -> CommandFilter:
    parameters = request.query_params
    for name in parameters:
        if name not in _PARAMETERS:
            raise _invalid(name, f"there is no parameter {shown(name)}", "UNKNOWN_PARAMETER")
    agent_id, type_ = parameters.get("agent", ""), parameters.get("type", "")
    if agent_id:
        check_agent_id(agent_id, "agent")
    if type_ and not COMMAND_TYPE_PATTERN.fullmatch(type_):
        raise _invalid("type", f"type must be a letter and up to 63 of A-Z a-z 0-9 . _ -, not {shown(type_)}")
    since, until = _number(request, "since", 0, _MAX_MS), _number(request, "until", 0, _MAX_MS)
    if since is not None and until is not None and until <= since:
        raise _invalid("until", "until must be after since", "EMPTY_TIME_RANGE")
    return CommandFilter(agent_id, _statuses(request), type_, since, until)


def _audit_filter(request: Request) -> AuditFilter:
    parameters = request.query_params
    for name in parameters:
        if name not in _AUDIT_PARAMETERS:
            raise _invalid(name, f"there is no parameter {shown(name)}", "UNKNOWN_PARAMETER")
    return AuditFilter(
        after_ms=_number(request, "since", 0, _MAX_MS) or 0,
        before_ms=_number(request, "until", 0, _MAX_MS) or 0,
        actor=parameters.get("actor", ""),
        agent_id=parameters.get("agent", ""),
        command_id=parameters.get("command", ""),
        types=tuple(parameters.getlist("type")),
        outcomes=tuple(parameters.getlist("outcome")),
    ).checked()


def _statuses(request: Request) -> tuple[CommandStatus, ...]:
    wanted: set[CommandStatus] = set()
    for word in request.query_params.getlist("status"):
        if word not in set(CommandStatus):
            raise _invalid("status", f"status has no value {shown(word)}", "UNKNOWN_STATUS")
        wanted.add(CommandStatus(word))
    return tuple(status for status in CommandStatus if status in wanted)


def _number(request: Request, name: str, low: int, high: int) -> int | None:
    text = request.query_params.get(name)
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and low <= int(text) <= high):
        raise _invalid(name, f"{name} must be {low:,} to {high:,}, not {shown(text)}", "OUT_OF_RANGE")
    return int(text)


def _invalid(field: str, message: str, reason: str = "INVALID_FIELD") -> InvalidArgument:
    return InvalidArgument(message, field=field, reason=reason)
