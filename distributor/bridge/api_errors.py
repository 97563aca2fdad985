"""Errors as responses of HTTP routes."""

from __future__ import annotations

import math
from typing import Final

from starlette.responses import JSONResponse, Response

from distributor.errors import DistributorError
from distributor.wire.documents import error_document

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
    headers = {"WWW-Authenticate": "Bearer"} if error.code == "UNAUTHENTICATED" else {}
    if error.retry_after_seconds is not None:
        # Whole seconds (RFC 9110, section 10.2.3), and not 0.
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_seconds)))
    return JSONResponse({"error": document}, _HTTP_CODES.get(error.code, 500), headers)
