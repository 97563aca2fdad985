"""Errors as responses of HTTP routes."""

from __future__ import annotations

from typing import Final

from starlette.responses import JSONResponse, Response

from distributor.errors import DistributorError
from distributor.wire.documents import error_document
from distributor.wire.http_refusal import refusal_headers

_HTTP_CODES: Final = {
    "INVALID_ARGUMENT": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "FAILED_PRECONDITION": 409,
    "UNAVAILABLE": 503,
    "RESOURCE_EXHAUSTED": 429,
}
_FIELDS: Final = {"page_token": "pageToken"}


def error_response(error: DistributorError) -> Response:
    """The error document as a response."""
    document = error_document(error)
    document["field"] = _FIELDS.get(error.field, document["field"])
    return JSONResponse({"error": document}, _HTTP_CODES.get(error.code, 500), refusal_headers(error))
