"""IdentityService on the wire: what the server knows of the caller."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc

from distributor.identity.caller import Caller
from distributor.identity.roles import Role
from distributor.rpc.current_caller import current_caller
from distributor.v1 import identity_pb2 as pb
from distributor.v1.identity_pb2_grpc import IdentityServiceServicer

Context = grpc.aio.ServicerContext[Any, Any]


class IdentityServicer(IdentityServiceServicer):
    """Answers from the credentials of the call, and with what is unsafe about the server (`insecure`)."""

    def __init__(self, insecure: Sequence[str] = ()) -> None:
        self._insecure = insecure

    async def WhoAmI(self, request: pb.WhoAmIRequest, context: Context) -> pb.WhoAmIResponse:
        identity = identity_of(current_caller())
        identity.insecure.extend(self._insecure)
        return identity


def identity_of(caller: Caller) -> pb.WhoAmIResponse:
    """The wire form of a caller."""
    wire = pb.WhoAmIResponse(
        kind=caller.kind,
        subject=caller.subject,
        on_behalf_of=caller.on_behalf_of,
        roles=[role for role in Role if role in caller.roles],
        address=caller.address,
    )
    if not caller.grants.everything:
        wire.grants.SetInParent()
        for grant in caller.grants.documents() or ():
            wire.grants.grants.add(**grant)
    if caller.expires is not None:
        wire.expire_time.FromMilliseconds(round(caller.expires * 1000))
    return wire
