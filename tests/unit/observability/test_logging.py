from __future__ import annotations

import asyncio
import io
import json
import logging

import pytest

from distributor.observability.logging import bind_log_context, configure_logging, get_logger, log_context


def test_a_json_line_carries_its_context() -> None:
    stream = io.StringIO()
    configure_logging("json", "info", stream)
    with log_context(command_id="c1", agent_id="a1", attempt=2):
        get_logger(component="distributor").info("sent", commands=3)
    line = json.loads(stream.getvalue())
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "sent",
        "level": "info",
        "component": "distributor",
        "command_id": "c1",
        "agent_id": "a1",
        "attempt": 2,
        "commands": 3,
    }


def test_context_ends_with_its_block() -> None:
    stream = io.StringIO()
    configure_logging("json", "info", stream)
    with log_context(agent_id="a1"):
        pass
    get_logger().info("later")
    assert "agent_id" not in json.loads(stream.getvalue())


async def test_bound_context_is_that_of_the_task_and_those_it_starts() -> None:
    stream = io.StringIO()
    configure_logging("json", "info", stream)

    async def started() -> None:
        get_logger().info("started")

    async def task() -> None:
        bind_log_context(command_id="c1", attempt=2)
        get_logger().info("in the task")
        await asyncio.create_task(started())

    await asyncio.create_task(task())
    get_logger().info("outside")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["event"], line.get("command_id"), line.get("attempt")) for line in lines] == [
        ("in the task", "c1", 2),
        ("started", "c1", 2),
        ("outside", None, None),
    ]


@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.parametrize("field", ["params", "output", "result", "argv", "valkey_url"])
def test_content_is_withheld(log_format: str, field: str) -> None:
    stream = io.StringIO()
    configure_logging("json" if log_format == "json" else "console", "info", stream)
    get_logger().info("queued", **{field: "hunter2"})
    assert "hunter2" not in stream.getvalue()
    assert "[withheld]" in stream.getvalue()


def test_a_console_line_stays_one_line_and_has_no_control_characters() -> None:
    stream = io.StringIO()
    configure_logging("console", "info", stream)
    hostile = "no\nfake line\x1b]52;c;evil\x07"
    get_logger().info("refused", reason=hostile, also="\x1b]0;title")
    logging.getLogger("library").warning("refused %s", hostile)
    assert stream.getvalue().count("\n") == 2
    assert "\x1b]" not in stream.getvalue()
    assert stream.getvalue().count("no␊fake line␛]52;c;evil␇") == 2


def test_level() -> None:
    stream = io.StringIO()
    configure_logging("console", log_level="warning", stream=stream)
    get_logger().info("quiet")
    logging.getLogger("library").info("quiet")
    get_logger().warning("loud")
    assert "quiet" not in stream.getvalue()
    assert "loud" in stream.getvalue()


def test_libraries_log_in_the_same_form() -> None:
    stream = io.StringIO()
    configure_logging("json", "info", stream)
    with log_context(agent_id="a1"):
        logging.getLogger("some.library").warning("slow: %d ms", 7)
    line = json.loads(stream.getvalue())
    assert (line["event"], line["level"], line["logger"], line["agent_id"]) == (
        "slow: 7 ms",
        "warning",
        "some.library",
        "a1",
    )


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_exceptions_are_shown_without_their_local_variables(log_format: str) -> None:
    stream = io.StringIO()
    configure_logging("json" if log_format == "json" else "console", "info", stream)
    params = "hunter2"
    try:
        raise ValueError(f"the cause has {len(params)} letters")
    except ValueError:
        get_logger().exception("ours")
        logging.getLogger("library").exception("theirs")
    lines = stream.getvalue()
    assert lines.count("the cause has 7 letters") >= 2
    assert "hunter2" not in lines
    if log_format == "json":
        assert [json.loads(line)["event"] for line in lines.splitlines()] == ["ours", "theirs"]


def test_in_a_program_that_is_not_ours_lines_go_where_those_of_libraries_go(caplog: pytest.LogCaptureFixture) -> None:
    with log_context(agent_id="a1"), caplog.at_level(logging.INFO):
        get_logger().debug("quiet")
        get_logger().info("connected", server="100 %s\n", params="hunter2")
    assert [record.name for record in caplog.records] == [__name__]
    assert caplog.records[0].getMessage() == "connected agent_id=a1 params=[withheld] server='100 %s␊'"
