"""Signs users of the page in and out: POST, GET and DELETE /session."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from distributor.bridge.api_errors import error_response
from distributor.bridge.audit_notes import AuditNotes
from distributor.bridge.credentials import Credential, CredentialCheck, address_of
from distributor.bridge.own_page import is_from_this_machine, is_own_origin
from distributor.bridge.session_cookie import clear_session, session_token, set_session
from distributor.errors import DistributorError, InvalidArgument, PermissionDenied, Unauthenticated
from distributor.identity.permissions import MESSAGES, check_permitted, no_credentials
from distributor.wire.documents import Document, time_text

PATH: Final = "/session"
MAX_BODY_BYTES: Final = 16_384
_NOBODY: Final[Document] = {"userId": None, "roles": [], "expireTime": None}


class WebSession:
    """The routes of /session. Stateless: the cookie holds the token, so any bridge with the same keys accepts it."""

    def __init__(
        self,
        credentials: CredentialCheck,
        listed_origins: tuple[str, ...],
        mint: Callable[[], str] | None,
        notes: AuditNotes,
    ) -> None:
        """`mint` issues the token of whoever opens the page on this machine; None outside development."""
        self._credentials = credentials
        self._listed = tuple(origin for origin in listed_origins if origin != "*")
        self._mint = mint
        self._notes = notes

    def route(self) -> Route:
        """The route to mount."""
        return Route(PATH, self._answer, methods=["GET", "POST", "DELETE"])

    async def _answer(self, request: Request) -> Response:
        try:
            if request.method == "GET":
                return self._shown(request)
            if not is_own_origin(request.headers, self._listed):
                raise PermissionDenied("only for the bridge's own page", reason="FOREIGN_ORIGIN")
            return await self._signed_in(request) if request.method == "POST" else self._signed_out(request)
        except DistributorError as error:
            self._notes.refused(error, PATH, address=address_of(request))
            return error_response(error)

    def _shown(self, request: Request) -> Response:
        """Who is signed in; nobody, and why, without a session that counts. Not an error: pages ask at the start."""
        token = session_token(request, self._listed)
        signs_in = {"signsIn": self._mint is not None and is_from_this_machine(request)}
        try:
            user = _document(self._credentials.of_token(token, address_of(request))) if token else _NOBODY
            return JSONResponse(user | signs_in)
        except Unauthenticated as error:
            self._notes.refused(error, PATH, address=address_of(request))
            return JSONResponse(_NOBODY | signs_in | {"problem": error.message})

    async def _signed_in(self, request: Request) -> Response:
        credential = self._credentials.of_token(await self._given_token(request), address_of(request))
        check_permitted(credential.caller, MESSAGES["dashboard:connect"], "the page")
        response = JSONResponse(_document(credential))
        set_session(response, request, credential.token, credential.caller)
        self._notes.connected(credential.caller, PATH)
        return response

    async def _given_token(self, request: Request) -> str:
        fields = await _fields_of(request)
        token = fields.get("token", "")
        if not isinstance(token, str):
            raise InvalidArgument("token must be text", field="token", reason="INVALID_FIELD")
        if token:
            return token
        if self._mint is None or not is_from_this_machine(request):
            raise no_credentials()
        return self._mint()

    def _signed_out(self, request: Request) -> Response:
        response = Response(status_code=204)
        clear_session(response, request)
        return response


async def _fields_of(request: Request) -> dict[str, Any]:
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise InvalidArgument("the content type must be application/json", reason="MALFORMED_JSON")
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise InvalidArgument(f"the request is over {MAX_BODY_BYTES:,} bytes", reason="MALFORMED_JSON")
    try:
        fields = json.loads(bytes(body))
    except (ValueError, RecursionError) as error:
        raise InvalidArgument("the request is not valid JSON", reason="MALFORMED_JSON") from error
    if not isinstance(fields, dict):
        raise InvalidArgument("the request must be a JSON object", reason="MALFORMED_JSON")
    return fields


def _document(credential: Credential) -> Document:
    caller = credential.caller
    return {
        "userId": caller.subject,
        "roles": sorted(caller.roles),
        "expireTime": time_text(int(caller.expires * 1000)) if caller.expires is not None else None,
    }
