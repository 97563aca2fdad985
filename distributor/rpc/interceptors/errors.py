"""Converts errors to status."""

from __future__ import annotations

import grpc

from distributor.errors import DistributorError
from distributor.observability.logging import get_logger
from distributor.rpc.interceptors.wrapping import Context, short_name
from distributor.rpc.status import to_grpc

logger = get_logger()

_UNEXPECTED = DistributorError("internal error; see the server's log", reason="INTERNAL")


async def abort(method: str, error: Exception, context: Context) -> None:
    """End a call with the status of `error`, and raise what tells gRPC so.

    The only place where our errors become gRPC status. Unexpected errors are logged and returned as INTERNAL.
    """
    if isinstance(error, grpc.aio.AbortError):
        raise error
    if not isinstance(error, DistributorError):
        logger.error("a call failed unexpectedly", method=short_name(method), exc_info=error)
        error = _UNEXPECTED
    elif error.code == "INTERNAL":
        logger.error("a call failed", method=short_name(method), error=str(error))
    await context.abort(*to_grpc(error))
