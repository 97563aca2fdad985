"""All services of the contract, found in the generated modules, so that a new RPC is fuzzed without a line here."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

import distributor


class Rpc(NamedTuple):
    """One method of a service."""

    path: str
    request: type[Message]
    response: type[Message]
    client_streams: bool
    server_streams: bool


def all_rpcs() -> Iterator[Rpc]:
    """Yield each method of each service under distributor/v1."""
    for file in sorted((Path(distributor.__file__).parent / "v1").glob("*_pb2.py")):
        module = importlib.import_module(f"distributor.v1.{file.stem}")
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                yield _rpc(service, method)


def _rpc(service: Any, method: Any) -> Rpc:
    return Rpc(
        f"/{service.full_name}/{method.name}",
        GetMessageClass(method.input_type),
        GetMessageClass(method.output_type),
        method.client_streaming,
        method.server_streaming,
    )
