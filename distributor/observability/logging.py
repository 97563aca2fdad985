"""Structured logging to stderr, as JSON or console text, with the same format for libraries.

Content from callers and agents, such as params, output and results, never reaches the log. The fields named in
`WITHHELD` are replaced, in case a call passes one by mistake.

When imported as a library, for example by an agent, log lines go to the standard library's `logging`, unless the
program has configured structlog or calls `configure_logging`. `Agent.run` adds a handler if the program has none.
"""

from __future__ import annotations

import logging
import sys
from contextlib import AbstractContextManager
from typing import Any, Final, Literal, TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

WITHHELD: Final = frozenset(
    {"argv", "data", "data_json", "env", "output", "params", "password", "payload", "result", "token", "valkey_url"}
)

_MULTILINE_FIELDS: Final = frozenset({"exception", "stack"})


def configure_logging(
    log_format: Literal["console", "json"] = "console",
    log_level: str = "info",
    stream: TextIO | None = None,
    *,
    worker: int | None = None,
) -> None:
    """Configure all logging of this process; `stream` defaults to stderr. Call once, before the gRPC server starts.

    Each line has the number of the `worker` that writes it, if this process is one.

    A second call affects only loggers created after it. Tests use this.
    """
    target = stream or sys.stderr
    level = logging.getLevelNamesMapping()[log_level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        *([_numbered(worker)] if worker is not None else []),
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        withhold_content,
    ]
    rendering = _rendering(log_format, colors=target.isatty())
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=target),
        cache_logger_on_first_use=stream is None,
    )
    _configure_libraries(target, level, shared, rendering)


def log_through_standard_library() -> None:
    """Route log lines to `logging`, under the name of their module: the default until `configure_logging` is called."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            withhold_content,
            structlog.processors.format_exc_info,
            replace_control_characters,
            structlog.dev.ConsoleRenderer(
                colors=False, pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
            ),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.NOTSET),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def ensure_log_handler() -> None:
    """Log to stderr at level info if the program has no handler for our lines."""
    ours = logging.getLogger(__name__.partition(".")[0])
    if ours.hasHandlers():
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)


def get_logger(**context: str | int) -> FilteringBoundLogger:
    """Return a logger that adds `context` to each line. Log a short event first, then fields as keyword arguments."""
    return cast(FilteringBoundLogger, structlog.get_logger(**context))


def log_context(
    *, command_id: str | None = None, agent_id: str | None = None, attempt: int | None = None
) -> AbstractContextManager[None]:
    """Add these fields to every line logged inside the `with` block, by this task and the tasks it starts there."""
    given: dict[str, str | int | None] = {"command_id": command_id, "agent_id": agent_id, "attempt": attempt}
    return structlog.contextvars.bound_contextvars(**{key: value for key, value in given.items() if value is not None})


def bind_log_context(*, command_id: str, attempt: int) -> None:
    """Add these fields to every line that the current task, and the tasks it starts, log from now on.

    Cheaper than `log_context`. In a thread, call it in a context of its own.
    """
    structlog.contextvars.bind_contextvars(command_id=command_id, attempt=attempt)


def withhold_content(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """A structlog processor that replaces the values of fields with content or secrets."""
    for key in WITHHELD.intersection(event):
        event[key] = "[withheld]"
    return event


def replace_control_characters(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """A structlog processor that keeps an event on one line and free of terminal control sequences.

    Replaces control characters with their Unicode pictures, such as ␛ for escape, and other unprintable characters
    with �.
    """
    for key, value in event.items():
        if isinstance(value, str) and not value.isprintable() and key not in _MULTILINE_FIELDS:
            event[key] = "".join(
                character if character.isprintable() else _control_picture(character) for character in value
            )
    return event


def _numbered(worker: int) -> Processor:
    def add_worker(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event["worker"] = worker
        return event

    return add_worker


def _control_picture(character: str) -> str:
    return chr(0x2400 + ord(character)) if character < " " else "�"


def _rendering(log_format: str, *, colors: bool) -> list[Processor]:
    if log_format == "json":
        without_locals = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        return [structlog.processors.ExceptionRenderer(without_locals), structlog.processors.JSONRenderer()]
    return [
        structlog.processors.format_exc_info,
        replace_control_characters,
        structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback),
    ]


def _configure_libraries(target: TextIO, level: int, shared: list[Processor], rendering: list[Processor]) -> None:
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[_without_metadata, *rendering],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(level, logging.INFO))
    for chatty in ("asyncio", "uvicorn"):
        logging.getLogger(chatty).setLevel(max(level, logging.WARNING))
    logging.captureWarnings(True)


def _without_metadata(_: WrappedLogger, __: str, event: EventDict) -> Any:
    return structlog.stdlib.ProcessorFormatter.remove_processors_meta(_, __, event)


if not structlog.is_configured():
    log_through_standard_library()
