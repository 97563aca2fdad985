"""The program of a worker: one replica, as its supervisor assigns it.

    python -P -m distributor.app.worker_program <descriptor of its end of the channel>

It ends at once when its supervisor does.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, NoReturn

from distributor.app.event_loop import loop_factory
from distributor.app.server_process import ServerProcess, Worker, serving, tune_garbage_collection
from distributor.app.signals import StopSignals
from distributor.app.worker_place import assigned
from distributor.errors import DistributorError, Unavailable
from distributor.observability.families import family_documents
from distributor.observability.logging import configure_logging, get_logger
from distributor.processes.open_files import open_files_limit, raise_open_files_limit
from distributor.processes.process_channel import ProcessChannel, error_document
from distributor.tasks import first_of, stop_tasks
from distributor.wire.http_credentials import HttpCredentials

logger = get_logger()

PROGRAM: Final = ("-P", "-m", "distributor.app.worker_program")
ORPHANED: Final = 1


class WorkerProgram:
    """Serves from its assignment until its supervisor, or a signal to this process, stops it."""

    def __init__(self, end: socket.socket) -> None:
        self._channel = ProcessChannel(
            end,
            {
                "serve": self._assign,
                "drain": self._drain,
                "metrics": self._served(self._metrics),
                "faults": self._served(self._faults),
                "admit": self._served(self._admit),
            },
        )
        self._assigned: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._stop = asyncio.Event()
        self._server: ServerProcess | None = None

    async def run(self) -> int:
        """Serve, and return the exit code. Errors that operators can mend go to the supervisor."""
        await self._channel.open()
        reading = asyncio.create_task(self._end_with_supervisor(), name="supervisor")
        try:
            with StopSignals() as signals:
                await self._serve(signals)
        except DistributorError as error:
            with suppress(DistributorError):
                await self._channel.ask("failed", error=error_document(error))
            return 1
        finally:
            await stop_tasks([reading])
        return 0

    async def _serve(self, signals: StopSignals) -> None:
        settings, place = assigned(await self._assigned)
        configure_logging(settings.log_format, settings.log_level, worker=place.number)
        async with serving(settings, worker=Worker(place, self._sync)) as server:
            tune_garbage_collection()
            self._server = server
            logger.info("worker serves", open_files=open_files_limit())
            self._channel.tell("serving")
            await first_of(signals.wait(), _until(self._stop), server.run())

    async def _end_with_supervisor(self) -> NoReturn:
        await self._channel.run()
        os._exit(ORPHANED)

    # What the supervisor asks

    async def _assign(self, document: dict[str, Any]) -> None:
        self._assigned.set_result(document)

    async def _drain(self, _: dict[str, Any]) -> None:
        self._stop.set()

    def _served(
        self, answer: Callable[[ServerProcess, dict[str, Any]], Awaitable[Any]]
    ) -> Callable[[dict[str, Any]], Awaitable[Any]]:
        async def answered(details: dict[str, Any]) -> Any:
            if self._server is None:
                raise Unavailable("the worker is starting")
            return await answer(self._server, details)

        return answered

    @staticmethod
    async def _metrics(server: ServerProcess, _: dict[str, Any]) -> Any:
        return family_documents(server.metrics.registry)

    @staticmethod
    async def _faults(server: ServerProcess, _: dict[str, Any]) -> Any:
        return server.faults()

    @staticmethod
    async def _admit(server: ServerProcess, details: dict[str, Any]) -> None:
        certificate = details["certificate"]
        await server.admit(
            HttpCredentials(
                details["authorization"],
                certificate.encode() if certificate is not None else None,
                details["address"],
            )
        )

    async def _sync(self) -> None:
        try:
            await self._channel.ask("sync")
        except DistributorError as error:
            raise OSError(error.message) from error


async def _until(event: asyncio.Event) -> None:
    await event.wait()


async def work(end: socket.socket) -> int:
    """Run a worker on its end of the channel; return its exit code."""
    return await WorkerProgram(end).run()


def main() -> None:
    """Run a worker until it is stopped. Never returns."""
    end = socket.socket(fileno=int(sys.argv[1]))
    # Its own children must not keep the channel open.
    end.set_inheritable(False)
    raise_open_files_limit()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        sys.exit(runner.run(work(end)))


if __name__ == "__main__":
    main()
