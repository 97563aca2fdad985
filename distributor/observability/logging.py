"""Log lines: structured, to stderr, JSON or for the eye; those of libraries look the same as ours.

What callers and agents send as content, such as params, output or results, never goes into a log line. Should a call
pass some by mistake, under one of the names in `WITHHELD`, the line says so instead.

In a program that is not ours, such as an author's agent, lines go to the standard library's `logging` as those of any
library do, unless that program has set up structlog or calls `configure_logging`. `Agent.run` shows them where nobody
else would.
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

_OVER_SEVERAL_LINES: Final = frozenset({"exception", "stack"})


def configure_logging(
    log_format: Literal["console", "json"] = "console", log_level: str = "info", stream: TextIO | None = None
) -> None:
    """Set up all logging of this process, to stderr unless told otherwise. Call once, before the gRPC server starts.

    A second call replaces the set-up for loggers made after it; that is for tests.
    """
    target = stream or sys.stderr
    level = logging.getLevelNamesMapping()[log_level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
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
    """Hand lines to `logging`, under the name of the module that they come from. So it is unless configured."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            withhold_content,
            structlog.processors.format_exc_info,
            picture_control_characters,
            structlog.dev.ConsoleRenderer(
                colors=False, pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
            ),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.NOTSET),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def show_lines_of_ours() -> None:
    """Show our lines on stderr, from info up, where the program at hand has no handler that would take them."""
    ours = logging.getLogger(__name__.partition(".")[0])
    if ours.hasHandlers():
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)


def get_logger(**context: str | int) -> FilteringBoundLogger:
    """A logger whose lines carry `context`. Its first argument is what happened, in few words; the rest are fields."""
    return cast(FilteringBoundLogger, structlog.get_logger(**context))


def log_context(
    *, command_id: str | None = None, agent_id: str | None = None, attempt: int | None = None
) -> AbstractContextManager[None]:
    """Put these into every line that is logged inside the `with` block, by this task and tasks it starts there."""
    given: dict[str, str | int | None] = {"command_id": command_id, "agent_id": agent_id, "attempt": attempt}
    return structlog.contextvars.bound_contextvars(**{key: value for key, value in given.items() if value is not None})


def withhold_content(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """A structlog processor: replaces the values of fields that hold content or secrets."""
    for key in WITHHELD.intersection(event):
        event[key] = "[withheld]"
    return event


def picture_control_characters(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """A structlog processor: whatever others send, an event stays one line and cannot command a terminal.

    Control characters become their pictures, such as ␛ for escape; others that cannot be printed become �.
    """
    for key, value in event.items():
        if isinstance(value, str) and not value.isprintable() and key not in _OVER_SEVERAL_LINES:
            event[key] = "".join(character if character.isprintable() else _picture(character) for character in value)
    return event


def _picture(character: str) -> str:
    return chr(0x2400 + ord(character)) if character < " " else "�"


def _rendering(log_format: str, *, colors: bool) -> list[Processor]:
    if log_format == "json":
        without_locals = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        return [structlog.processors.ExceptionRenderer(without_locals), structlog.processors.JSONRenderer()]
    return [
        structlog.processors.format_exc_info,
        picture_control_characters,
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
