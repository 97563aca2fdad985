"""Renews the agent's certificate: on its stream while it is valid, or where the agent enrolled once it has expired."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Final

from distributor.agent.current_session import CurrentSession
from distributor.agent.enrolment import renew_expired
from distributor.agent.identity_files import IdentityFiles
from distributor.errors import DistributorError, FailedPrecondition
from distributor.identity.certificates import certificate_part, validity_of
from distributor.identity.private_keys import new_key, private_pem
from distributor.identity.signing_requests import signing_request
from distributor.observability.logging import get_logger
from distributor.v1.agent_gateway_pb2 import CertificateReply
from distributor.wire.documents import time_text
from distributor.wire.times import bounded_ms

logger = get_logger()

RENEWAL_SHARE: Final = 2 / 3
"""When to renew, as a share of the certificate's lifetime."""
SPREAD: Final = 0.1
"""How much earlier some agents begin, as a share of that, so that not all come at once."""
ANSWER_SECONDS: Final = 30.0
MAX_PAUSE_SECONDS: Final = 60.0
MIN_PAUSE_SECONDS: Final = 1.0
_ASKED_AGAIN_SECONDS: Final = 10.5
"""Servers answer one request in ten seconds."""
_STEP_SECONDS: Final = 60.0
"""Longest sleep: the clock may be set meanwhile, and the host may sleep."""


class CertificateRenewal:
    """Keeps the certificate of an enrolled agent valid. One loop; its key is replaced with each certificate."""

    def __init__(
        self, files: IdentityFiles, session: CurrentSession, spread: Callable[[], float] = random.random
    ) -> None:
        """`spread` returns a number from 0 to 1."""
        self._files = files
        self._session = session
        self._spread = spread
        self._reply: asyncio.Future[CertificateReply] | None = None

    async def run(self) -> None:
        """Renew on the stream until cancelled."""
        while True:
            await self._until_due()
            if not await self._renewed():
                await asyncio.sleep(max(self._pause(), _ASKED_AGAIN_SECONDS))

    async def prepare(self) -> None:
        """Before a connection: renew the certificate if it has expired, as after the host slept.

        Raises FailedPrecondition if it is too late. Other failures are only logged, since connecting meets them again.
        """
        _, expires = self._validity()
        if time.time() < expires:
            return
        logger.warning("the certificate has expired; renewing it")
        try:
            await renew_expired(self._files)
            logger.info("certificate renewed")
        except FailedPrecondition as error:
            raise FailedPrecondition(f"the agent cannot connect any more: {error}", reason=error.reason) from error
        except (DistributorError, ValueError) as error:
            logger.warning("the expired certificate cannot be renewed", error=str(error))

    def received(self, reply: CertificateReply) -> None:
        """The server has answered."""
        if self._reply is not None and not self._reply.done():
            self._reply.set_result(reply)

    async def _until_due(self) -> None:
        issued, expires = self._validity()
        share = RENEWAL_SHARE * (1 - SPREAD * self._spread())
        due = issued + (expires - issued) * share
        while True:
            left = due - time.time()
            if left <= 0:
                return
            await asyncio.sleep(min(left, _STEP_SECONDS))

    async def _renewed(self) -> bool:
        key = new_key()
        self._reply = asyncio.get_running_loop().create_future()
        if not self._session.request_certificate(signing_request(key)):
            return False
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                reply = await self._reply
        except TimeoutError:
            logger.warning("the certificate was not renewed: no answer", seconds=ANSWER_SECONDS)
            return False
        finally:
            self._reply = None
        if not reply.HasField("certificate"):
            logger.warning("the certificate was not renewed", code=reply.reason.code, reason=reply.reason.message)
            return False
        return self._kept(private_pem(key), reply)

    def _kept(self, key_pem: bytes, reply: CertificateReply) -> bool:
        try:
            if reply.certificate.server_ca:
                self._files.replace_server_ca(reply.certificate.server_ca)
            self._files.replace_credential(key_pem, reply.certificate.chain)
        except DistributorError as error:
            logger.error("the renewed certificate cannot be written", error=str(error))
            return False
        logger.info("certificate renewed", expires=time_text(bounded_ms(reply.certificate.expire_time)))
        return True

    def _pause(self) -> float:
        _, expires = self._validity()
        return min(MAX_PAUSE_SECONDS, max(MIN_PAUSE_SECONDS, (expires - time.time()) / 10))

    def _validity(self) -> tuple[float, float]:
        return validity_of(certificate_part(self._files.credential_pem()))
