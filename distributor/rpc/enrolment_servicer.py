"""EnrolmentService on the wire: convert, call the use case, convert back."""

from __future__ import annotations

from typing import Any

import grpc

from distributor.dispatch.enrolment import EnrolmentRequest, Enrolments, RenewalRequest
from distributor.rpc.current_caller import host_of
from distributor.rpc.enrolment_messages import certificate_message
from distributor.v1 import enrolment_pb2 as pb
from distributor.v1.enrolment_pb2_grpc import EnrolmentServiceServicer

Context = grpc.aio.ServicerContext[Any, Any]


class EnrolmentServicer(EnrolmentServiceServicer):
    """One method per RPC. `servers` are the addresses that enrolled agents are to connect to."""

    def __init__(self, enrolments: Enrolments) -> None:
        self._enrolments = enrolments
        self.servers = ""
        """As in `EnrolResponse.servers`."""

    async def Enrol(self, request: pb.EnrolRequest, context: Context) -> pb.EnrolResponse:
        wanted = EnrolmentRequest(request.token, request.agent_id, request.certificate_request.request, request.replace)
        enrolled = await self._enrolments.enrol(wanted, host_of(context.peer()))
        issuer = self._enrolments.issuer
        return pb.EnrolResponse(
            certificate=certificate_message(enrolled.certificate, issuer.server_ca),
            servers=self.servers,
            labels=enrolled.labels,
            trust_domain=issuer.trust_domain,
        )

    async def StartRenewal(self, request: pb.StartRenewalRequest, context: Context) -> pb.StartRenewalResponse:
        return pb.StartRenewalResponse(challenge=self._enrolments.challenge(request.certificate))

    async def Renew(self, request: pb.RenewRequest, context: Context) -> pb.RenewResponse:
        wanted = RenewalRequest(
            request.certificate, request.certificate_request.request, request.challenge, request.signature
        )
        certificate = self._enrolments.renew(wanted, host_of(context.peer()))
        return pb.RenewResponse(certificate=certificate_message(certificate, self._enrolments.issuer.server_ca))
