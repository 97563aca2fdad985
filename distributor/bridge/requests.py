"""Parses and validates messages from dashboards. Unknown fields are ignored.

Input is untrusted: parsing takes time linear in its length, and the number of values in a message is limited.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from distributor.bridge import message_fields as read
from distributor.bridge.message_fields import Fields
from distributor.errors import InvalidArgument
from distributor.identity.permissions import MESSAGES, Need
from distributor.model.command import (
    COMMAND_TYPE_PATTERN,
    MAX_RUNS,
    MAX_SLOTS,
    InvalidField,
    OfflinePolicy,
    check_agent_id,
    shown,
)
from distributor.model.json_value import whole_number
from distributor.model.queueing import CommandRequest
from distributor.model.stop_request import scope_of
from distributor.model.stop_scope import StopScope
from distributor.wire.json_values import NotJson, json_text

ALL: Final = "*"
MAX_REQUEST_ID: Final = 128
MAX_STRUCTURAL_CHARACTERS: Final = 65_536
"""Commas and opening brackets in a message: limits parsing to about 10 ms."""
MAX_PARAMS_VALUES: Final = 10_000
"""Values in the params of a command: each costs a few microseconds on the way to the server."""
_NOT_JSON_MARKERS: Final = ("\\u", "NaN", "Infinity")
_VERSION: Final = re.compile(r"1\.\d{1,9}\.\d{1,9}")


class Topics(NamedTuple):
    """Subscriptions of a message. `output` maps command ids to offsets."""

    agents: tuple[str, ...] = ()
    all_agents: bool = False
    commands: tuple[str, ...] = ()
    all_commands: bool = False
    commands_of: tuple[str, ...] = ()
    output: Mapping[str, int] = {}


class Connect(NamedTuple):
    """dashboard:connect. `resume` is None if absent."""

    token: str
    subscribe: Topics
    resume: str | None


class Renew(NamedTuple):
    """dashboard:renew."""

    request_id: str
    token: str


class Queue(NamedTuple):
    """command:request."""

    request_id: str
    command: CommandRequest


class Retry(NamedTuple):
    """command:retry."""

    request_id: str
    command_id: str
    idempotency_key: str


class Interrupt(NamedTuple):
    """command:interrupt."""

    request_id: str
    command_id: str
    reason: str


class Stop(NamedTuple):
    """emergency:stop."""

    request_id: str
    scope: StopScope
    reason: str


class Resume(NamedTuple):
    """emergency:resume."""

    request_id: str
    stop_id: str


class Subscribe(NamedTuple):
    """subscribe."""

    request_id: str
    what: Topics


class Unsubscribe(NamedTuple):
    """unsubscribe."""

    request_id: str
    what: Topics


class Ping(NamedTuple):
    """ping."""

    request_id: str


Request = Connect | Renew | Queue | Retry | Interrupt | Stop | Resume | Subscribe | Unsubscribe | Ping


def fields_of(text: str) -> Fields:
    """Parse the JSON object in `text`. Raises InvalidArgument.

    Accepts NaN, infinities and lone surrogates, which `check_values` rejects with the path of the field.
    """
    if sum(map(text.count, ",[{")) > MAX_STRUCTURAL_CHARACTERS:
        raise InvalidArgument(
            f"the message exceeds the limit of {MAX_STRUCTURAL_CHARACTERS:,} commas and opening brackets",
            reason="TOO_MANY_VALUES",
        )
    try:
        fields = json.loads(text, parse_int=whole_number)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"the message is not valid JSON: {_summary(error)}", reason="MALFORMED_JSON") from error
    if not isinstance(fields, dict):
        raise InvalidArgument("the message must be a JSON object", reason="MALFORMED_JSON")
    return fields


def request_id_of(fields: Fields) -> str:
    """The requestId of a possibly invalid message; empty if it has none that can be returned."""
    request_id = fields.get("requestId", "")
    if not isinstance(request_id, str) or len(request_id) > MAX_REQUEST_ID:
        return ""
    try:
        request_id.encode()
    except UnicodeEncodeError:
        return ""
    return request_id


def check_values(fields: Fields, text: str) -> None:
    """Raise InvalidArgument that names the field for NaN, infinities and lone surrogates outside `params`.

    For `params` the call to the server reports the path.
    """
    if not any(marker in text for marker in _NOT_JSON_MARKERS):
        return
    own = {name: value for name, value in fields.items() if name != "params"}
    try:
        json_text(own, "message")
    except NotJson as error:
        field, sentence = error.path.removeprefix("message."), str(error).removeprefix("message.")
        raise InvalidArgument(sentence, field=field, reason="MALFORMED_JSON") from error


def need_of(fields: Fields) -> Need:
    """What a message needs, judged by its type alone. An unknown type, which `parse` reports, needs the least."""
    type_ = fields.get("type")
    return MESSAGES.get(type_, Need.VIEWER) if isinstance(type_, str) else Need.VIEWER


def type_of(fields: Fields) -> str:
    """The type of a message, as shown in errors."""
    type_ = fields.get("type")
    return type_ if isinstance(type_, str) and type_ in MESSAGES else "the message"


def token_of(fields: Fields) -> str:
    """The token of a first message, empty if it has none. Raises InvalidArgument if it is no dashboard:connect."""
    if fields.get("type") != "dashboard:connect":
        raise InvalidArgument("the first message must be dashboard:connect", field="type")
    return read.text(fields, "token")


def parse(fields: Fields) -> Request:
    """Parse a request. Raises InvalidArgument that names the field or the unknown type."""
    type_ = read.text(fields, "type", required=True)
    reader = _READERS.get(type_)
    if reader is None:
        raise InvalidArgument(
            f"there is no message type {shown(type_)}",
            field="type",
            reason="UNKNOWN_TYPE",
            metadata={"type": type_[:40]},
        )
    version = read.text(fields, "version", required=True)
    if not _VERSION.fullmatch(version):
        raise read.invalid("version", f"must be 1.x.y, not {shown(version)}", "UNSUPPORTED_VERSION")
    read.text(fields, "requestId", max_length=MAX_REQUEST_ID)
    try:
        return reader(fields)
    except InvalidField as error:
        raise InvalidArgument(str(error), field=error.field, reason=error.reason) from error


def _connect(fields: Fields) -> Connect:
    resume = read.text(fields, "resume") if fields.get("resume") is not None else None
    subscribe = _subscriptions(read.mapping(fields, "subscribe")) if "subscribe" in fields else Topics(all_agents=True)
    return Connect(read.text(fields, "token"), subscribe, resume)


def _renew(fields: Fields) -> Renew:
    return Renew(request_id_of(fields), read.text(fields, "token", required=True))


def _queue(fields: Fields) -> Queue:
    agent_id = read.text(fields, "agentId", required=True)
    check_agent_id(agent_id, "agentId")
    type_, params = _type_and_params(fields)
    offline = read.text(fields, "offline") or OfflinePolicy.FAIL
    if offline not in set(OfflinePolicy):
        raise read.invalid("offline", f"must be queue or fail, not {shown(offline)}")
    command = CommandRequest(
        agent_id,
        type_,
        params,
        priority=read.priority(fields.get("priority", "normal")),
        time_limit_seconds=read.seconds(fields, "timeLimitSeconds", "TIME_LIMIT_OUT_OF_RANGE"),
        idle_limit_seconds=read.seconds(fields, "idleLimitSeconds", "IDLE_LIMIT_OUT_OF_RANGE"),
        queue_ttl_seconds=read.seconds(fields, "queueTtlSeconds", "QUEUE_TTL_OUT_OF_RANGE"),
        offline=OfflinePolicy(offline),
        max_runs=read.count(fields, "maxRuns", MAX_RUNS, "MAX_RUNS_OUT_OF_RANGE"),
        max_runs_by_reason=read.runs_by_reason(fields, "maxRunsByReason"),
        slots=read.count(fields, "slots", MAX_SLOTS, "SLOTS_OUT_OF_RANGE"),
        idempotency_key=read.text(fields, "idempotencyKey"),
        secret_params=read.pointers(fields, "secretParams"),
    )
    return Queue(request_id_of(fields), command)


def _type_and_params(fields: Fields) -> tuple[str, Mapping[str, Any]]:
    if "command" in fields:
        if "commandType" in fields or "params" in fields:
            raise read.invalid("command", "must stand alone, without commandType and params")
        return _command_line(read.text(fields, "command"))
    if "commandType" not in fields:
        raise InvalidArgument(
            "command is required: a command line to execute, or commandType with params",
            field="command",
            reason="MISSING_FIELD",
        )
    type_ = read.text(fields, "commandType", required=True)
    if not COMMAND_TYPE_PATTERN.fullmatch(type_):
        raise read.invalid("commandType", f"must be a letter and up to 63 of A-Z a-z 0-9 . _ -, not {shown(type_)}")
    params = read.mapping(fields, "params")
    if _has_more_values(params, MAX_PARAMS_VALUES):
        raise read.invalid("params", f"exceeds the limit of {MAX_PARAMS_VALUES:,} values", "TOO_MANY_VALUES")
    return type_, params


def _command_line(line: str) -> tuple[str, Mapping[str, Any]]:
    """Run a command line with the shell of the agent's host, if EXEC permits it there."""
    if not line.strip():
        raise _invalid_command("it is empty, the command to execute is required")
    if "\0" in line:
        raise _invalid_command("it contains a NUL character")
    return "EXEC", {"argv": ["sh", "-c", line]}


def _invalid_command(why: str) -> InvalidArgument:
    return InvalidArgument(f"Invalid command: {why}", field="command", reason="INVALID_COMMAND")


def _has_more_values(value: object, limit: int) -> bool:
    pending, count = [value], 0
    while pending and count <= limit:
        item = pending.pop()
        count += 1
        if isinstance(item, dict):
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)
    return count > limit


def _retry(fields: Fields) -> Retry:
    return Retry(
        request_id_of(fields),
        read.command_id(fields.get("commandId"), "commandId"),
        read.text(fields, "idempotencyKey"),
    )


def _interrupt(fields: Fields) -> Interrupt:
    return Interrupt(
        request_id_of(fields),
        read.command_id(fields.get("commandId"), "commandId"),
        read.text(fields, "reason"),
    )


def _stop(fields: Fields) -> Stop:
    selectors = read.items(fields, "selectors")
    if not all(isinstance(item, str) for item in selectors):
        raise read.invalid("selectors", "must be texts")
    everything = fields.get("all", False)
    if not isinstance(everything, bool):
        raise read.invalid("all", f"must be true or false, not {read.as_json(everything)}")
    return Stop(request_id_of(fields), scope_of(everything, selectors), read.text(fields, "reason"))


def _resume(fields: Fields) -> Resume:
    return Resume(request_id_of(fields), read.text(fields, "stopId", required=True))


def _subscribe(fields: Fields) -> Subscribe:
    return Subscribe(request_id_of(fields), _subscriptions(fields))


def _unsubscribe(fields: Fields) -> Unsubscribe:
    output = [read.command_id(item, f"output[{place}]") for place, item in enumerate(read.items(fields, "output"))]
    without = {name: value for name, value in fields.items() if name != "output"}
    return Unsubscribe(request_id_of(fields), _subscriptions(without)._replace(output=dict.fromkeys(output, 0)))


def _ping(fields: Fields) -> Ping:
    return Ping(request_id_of(fields))


def _subscriptions(fields: Fields) -> Topics:
    agents, commands = read.items(fields, "agents"), read.items(fields, "commands")
    return Topics(
        agents=read.agent_ids([item for item in agents if item != ALL], "agents"),
        all_agents=ALL in agents,
        commands=tuple(
            read.command_id(item, f"commands[{place}]") for place, item in enumerate(commands) if item != ALL
        ),
        all_commands=ALL in commands,
        commands_of=read.agent_ids(read.items(fields, "commandsOf"), "commandsOf"),
        output=dict(_output(item, f"output[{place}]") for place, item in enumerate(read.items(fields, "output"))),
    )


def _output(item: object, place: str) -> tuple[str, int]:
    if not isinstance(item, dict):
        raise read.invalid(place, "must be an object with commandId and offset")
    offset = item.get("offset", 0)
    if not isinstance(offset, int) or isinstance(offset, bool) or not 0 <= offset < 1 << 53:
        raise read.invalid(
            f"{place}.offset",
            f"must be a number of bytes from 0, not {read.as_json(offset)}",
            "OFFSET_OUT_OF_RANGE",
        )
    return read.command_id(item.get("commandId"), f"{place}.commandId"), offset


def _summary(error: Exception) -> str:
    return shown(str(error) or "it is nested too deeply", 100).strip("'")


_READERS: Final[dict[str, Callable[[Fields], Request]]] = {
    "dashboard:connect": _connect,
    "dashboard:renew": _renew,
    "command:request": _queue,
    "command:retry": _retry,
    "command:interrupt": _interrupt,
    "emergency:stop": _stop,
    "emergency:resume": _resume,
    "subscribe": _subscribe,
    "unsubscribe": _unsubscribe,
    "ping": _ping,
}
