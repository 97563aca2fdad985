"""Counts enrolments and renewals whose proof is refused, by address, and refuses more of them unread."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from distributor.errors import PermissionDenied, Unauthenticated
from distributor.identity.credential_attempts import CredentialAttempts
from distributor.identity.permissions import RPCS, Need
from distributor.rpc.current_caller import host_of
from distributor.rpc.interceptors.wrapping import Context, Interceptor


class EnrolmentAttemptInterceptor(Interceptor):
    """Applies to the calls that anyone may make, with the proof in the message: the door lets all of them in."""

    def __init__(self, attempts: CredentialAttempts) -> None:
        self._attempts = attempts

    def wrap_unary(self, method: str, behaviour: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        if RPCS.get(method) is not Need.ENROLMENT:
            return behaviour
        attempts = self._attempts

        async def call(request: Any, context: Context) -> Any:
            address = host_of(context.peer())
            attempts.check(address)
            try:
                return await behaviour(request, context)
            except (Unauthenticated, PermissionDenied):
                attempts.failed(address)
                raise

        return call
