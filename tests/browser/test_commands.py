"""What a user does with commands: send, watch, cancel, repeat, find."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest
from playwright.async_api import WebSocketRoute, expect

from tests.support.dashboard_page import DashboardPage
from tests.support.page_world import AGENT_ID, PageWorld
from tests.support.waiting import PATIENCE_SECONDS


async def test_a_program_runs_and_its_lines_appear(page: DashboardPage) -> None:
    await page.send("sh -c 'echo out; echo err >&2; sleep 60 & exit 3'", agent_id=AGENT_ID)
    await expect(page.status).to_have_text("failed")
    await expect(page.output).to_contain_text("out")
    await expect(page.output).to_contain_text("err")
    await expect(page.fact("Exit code")).to_have_text("3")
    await expect(page.page.get_by_label("Result", exact=True)).to_contain_text("exit code 3, 8 B of output")
    await expect(page.page.get_by_label("Result", exact=True)).to_contain_text("leftover processes killed")
    for stage in ("queued", "assigned", "sent", "acknowledged", "started", "finished"):
        await expect(page.stage(stage)).to_contain_text(re.compile(r"\d\d:\d\d:\d\d\.\d{3} UTC"))
    await expect(page.stage("finished")).to_contain_text(re.compile(r"\+[\d.]+ m?s"))


async def test_lines_appear_while_the_command_runs(page: DashboardPage, world: PageWorld) -> None:
    await page.send(agent_id=AGENT_ID, command_type="SCRIPT", params='{"name": "<b>bold</b>"}')
    await expect(page.status).to_have_text("assigned")
    await expect(page.fact("Params")).to_have_text('{\n  "name": "<b>bold</b>"\n}')
    for line in ("first line", "second line", "third line"):
        world.script.print(f"{line}\n")
        await expect(page.output).to_contain_text(line)
        await expect(page.status).to_have_text("assigned")
    world.script.end()
    await expect(page.status).to_have_text("completed")
    await expect(page.page.get_by_label("Result data")).to_have_text('{\n  "ok": true\n}')


async def test_a_command_is_cancelled(page: DashboardPage) -> None:
    await page.send("sleep 60", agent_id=AGENT_ID)
    await expect(page.status).to_have_text("assigned")
    await page.page.get_by_role("button", name="Cancel").click()
    await expect(page.status).to_have_text("cancelled")
    await expect(page.page.get_by_role("button", name="Cancel")).to_have_count(0)


async def test_a_command_is_sent_again(page: DashboardPage) -> None:
    first = await page.send("echo 'it is me'", agent_id=AGENT_ID)
    await page.page.get_by_role("button", name="Retry").click()
    await expect(page.page).not_to_have_url(re.compile(first))
    await expect(page.status).to_have_text("completed")
    await expect(page.output).to_contain_text("it is me")
    await page.page.get_by_role("link", name=f"…{first[-8:]}").click()
    await expect(page.fact("Retried as")).to_be_visible()
    await page.page.get_by_role("link", name="Edit and send…").click()
    await expect(page.page.get_by_label("Command line")).to_have_value("echo 'it is me'")


async def test_a_command_that_is_sent_again_keeps_its_limits(page: DashboardPage) -> None:
    await page.open(f"send?agent={AGENT_ID}")
    await page.page.get_by_label("Command line").fill("true")
    await page.page.get_by_label("Time limit (seconds)").fill("7200")
    await page.page.get_by_label("Queue limit (seconds)").fill("90")
    await page.page.get_by_role("button", name="Send", exact=True).click()
    first = await page.shown_command()
    await page.page.get_by_role("button", name="Retry").click()
    await expect(page.page).not_to_have_url(re.compile(first))
    await expect(page.fact("Time limit")).to_have_text("2 h")
    await expect(page.fact("Queue limit")).to_have_text("1 min 30 s")
    await page.page.get_by_role("link", name="Edit and send…").click()
    await expect(page.page.get_by_label("Time limit (seconds)")).to_have_value("7200")


class HeldAnswer:
    """Between a page and its bridge: the next answer to a request waits here until it is passed on, changed or not."""

    def __init__(self) -> None:
        self._answer: dict[str, Any] | None = None
        self._armed = False
        self._held = asyncio.Event()
        self._page: WebSocketRoute | None = None

    async def stand_between(self, page: DashboardPage) -> None:
        await page.page.route_web_socket("**/ws", self._connect)

    def _connect(self, to_page: WebSocketRoute) -> None:
        self._page = to_page
        to_page.connect_to_server().on_message(self._relay)

    def _relay(self, text: str | bytes) -> None:
        assert self._page is not None
        message = json.loads(text)
        if self._armed and message["type"] in ("command:accepted", "command:retried", "error"):
            self._armed, self._answer = False, message
            self._held.set()
        else:
            self._page.send(text)

    def hold(self) -> None:
        self._held.clear()
        self._armed = True

    async def pass_on(self, **changes: str) -> str:
        """Returns the id of the command, once there was an answer to pass on."""
        await asyncio.wait_for(self._held.wait(), PATIENCE_SECONDS)
        assert self._page is not None
        assert self._answer is not None
        self._page.send(json.dumps(self._answer | changes))
        return str(self._answer.get("newCommandId") or self._answer["commandId"])


NO_ANSWER = {"type": "error", "code": "UNAVAILABLE", "message": "the server did not answer in time"}


async def test_what_may_have_been_sent_is_queued_once(page: DashboardPage) -> None:
    answers = HeldAnswer()
    await answers.stand_between(page)
    await page.open(f"send?agent={AGENT_ID}")
    await page.page.get_by_label("Command line").fill("true")
    answers.hold()
    await page.page.get_by_role("button", name="Send", exact=True).click()
    sent = await answers.pass_on(**NO_ANSWER)
    await expect(page.page.get_by_role("alert")).to_contain_text("Unknown whether the command for page-agent was sent")
    await page.page.get_by_role("button", name="Send", exact=True).click()
    assert await page.shown_command() == sent
    # The same of a command that runs again.
    answers.hold()
    await page.page.get_by_role("button", name="Retry").click()
    again = await answers.pass_on(**NO_ANSWER)
    await expect(page.page.locator(".toast")).to_contain_text("Unknown whether the command for page-agent was sent")
    await page.page.get_by_role("button", name="Retry").click()
    await expect(page.page).to_have_url(re.compile(again))
    await page.open("commands")
    await expect(page.rows).to_have_count(2)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "Sent to page-agent."),
        (NO_ANSWER, "Unknown whether the command for page-agent was sent: the server did not"),
        (NO_ANSWER | {"code": "RESOURCE_EXHAUSTED"}, "Not sent to page-agent: the server did not"),
    ],
)
async def test_who_went_on_after_run_again_stays_there(page: DashboardPage, changes: dict[str, str], told: str) -> None:
    answers = HeldAnswer()
    await answers.stand_between(page)
    await page.send("true", agent_id=AGENT_ID)
    answers.hold()
    await page.page.get_by_role("button", name="Retry").click()
    await page.page.get_by_role("link", name="Agents").click()
    await expect(page.page.get_by_role("heading", name="Agents", exact=True)).to_be_visible()
    await answers.pass_on(**changes)
    await expect(page.page.locator(".toast")).to_contain_text(told)
    await expect(page.page).to_have_url(re.compile("#/agents$"))


async def test_lines_of_stderr_are_marked(page: DashboardPage, world: PageWorld) -> None:
    await page.send(agent_id=AGENT_ID, command_type="SCRIPT")
    world.script.print("out\n")
    world.script.print("\x1b[32mred\nsea\n", "stderr")
    world.script.print("end\n")
    world.script.end()
    await expect(page.status).to_have_text("completed")
    await expect(page.output).to_contain_text(re.compile("out.*▌.red.*▌.sea.*end", re.DOTALL))
    await page.picture("stderr")


async def test_a_command_for_an_agent_that_is_away(page: DashboardPage) -> None:
    await page.open("send?agent=nobody")
    await page.page.get_by_label("Command line").fill("true")
    hint = page.page.locator(".field", has=page.page.get_by_label("Agent", exact=True)).locator(".hint")
    type_field = page.page.get_by_label("Type", exact=True)
    place = await type_field.bounding_box()
    await page.page.get_by_label("Agent", exact=True).fill("an-agent-with-a-name-long-enough-for-two-lines")
    await expect(hint).to_contain_text("an-agent-with-a-name")
    assert await type_field.bounding_box() == place, "a hint moves no other field"
    await page.page.get_by_label("Agent", exact=True).fill("nobody")
    await expect(hint).to_have_text("Agent nobody is not connected, never seen: the command waits in the queue.")
    await page.page.get_by_label("fail at once").check()
    await expect(hint).to_contain_text("the command fails at once")
    await page.page.get_by_role("button", name="Send", exact=True).click()
    await expect(page.page.locator(".problem-box, .field .problem")).to_contain_text("nobody")
    await page.page.get_by_label("queue it").check()
    await page.page.get_by_role("button", name="Send", exact=True).click()
    await expect(page.status).to_have_text("queued")
    await expect(page.stage("assigned")).to_contain_text("not yet")
    await expect(page.page.locator(".notice")).to_contain_text("agent nobody is not connected")
    await page.picture("agent-away")
    await page.page.get_by_role("link", name="Overview").click()
    await expect(page.page.locator('.tile:has-text("Queued") dd')).to_have_text("1")
    await expect(page.rows).to_contain_text("true · not connected, never seen")


async def test_what_is_wrong_in_the_form_is_told_at_its_field(page: DashboardPage) -> None:
    await page.open("send")
    await page.page.get_by_label("Agent", exact=True).fill("not an agent!")
    await page.page.get_by_label("Command line").fill("echo 'open")
    await page.page.get_by_role("button", name="Send", exact=True).click()
    await expect(page.page.get_by_label("Command line")).to_have_attribute("aria-invalid", "true")
    await expect(page.page.locator("#send-line-problem")).to_contain_text("is not closed")
    await page.page.get_by_label("Command line").fill("true")
    await page.page.get_by_role("button", name="Send", exact=True).click()
    await expect(page.page.locator("#send-agentId-problem")).to_contain_text("not an agent!")


async def test_failed_ones_are_found_in_one_click(page: DashboardPage, world: PageWorld) -> None:
    good = await page.send("true", agent_id=AGENT_ID)
    bad = await page.send("false", agent_id=AGENT_ID)
    await expect(page.status).to_have_text("failed")
    await page.open("commands")
    await expect(page.rows).to_have_count(2)
    await page.page.get_by_role("button", name="Failed only").click()
    await expect(page.row(bad)).to_be_visible()
    await expect(page.row(good)).to_have_count(0)
    await expect(page.page).to_have_url(re.compile("status=failed"))
    await page.page.get_by_role("button", name="Failed only").click()
    await expect(page.rows).to_have_count(2)


async def test_filters_and_pages_are_the_servers(page: DashboardPage, world: PageWorld) -> None:
    await world.server.queue_many(30, agent_id="away", command_type="PING")
    own = await world.server.queue("elsewhere", "EXEC", params={"argv": ["echo", "not from this page"]})
    await page.open("commands?within=1h")
    await expect(page.rows).to_have_count(25)
    await page.page.get_by_role("link", name="Older").click()
    await expect(page.rows).to_have_count(6)
    await page.page.get_by_role("link", name="Newer").click()
    await expect(page.rows).to_have_count(25)
    await page.page.get_by_label("Agent").fill("elsewhere")
    await page.page.get_by_label("Agent").press("Enter")
    await expect(page.rows).to_have_count(1)
    await expect(page.row(own)).to_contain_text("echo 'not from this page'")
    await page.page.get_by_label("Queued").select_option("15m")
    await page.page.get_by_label("Status").select_option("completed")
    await expect(page.page.get_by_text("No matching commands")).to_be_visible()
    await page.page.get_by_role("link", name="Show all commands").click()
    await expect(page.rows).to_have_count(25)
    await page.page.get_by_label("Until").fill("2020-01-02T03:04")
    await expect(page.page.get_by_text("No matching commands")).to_be_visible()
    await page.page.get_by_label("Until").fill("2120-01-02T03:04")
    await expect(page.rows).to_have_count(25)
    await page.page.get_by_role("button", name="Clear").click()
    await expect(page.page.get_by_label("Until")).to_have_value("")
    await page.page.get_by_label("Type").fill("EXEC")
    await page.page.get_by_label("Type").press("Enter")
    await expect(page.rows).to_have_count(1)


async def test_a_list_follows_what_happens(page: DashboardPage, world: PageWorld) -> None:
    await page.open("commands")
    await expect(page.page.get_by_text("No commands yet")).to_be_visible()
    command_id = await world.server.queue(AGENT_ID, "SCRIPT")
    await expect(page.row(command_id).locator(".status")).to_have_text("assigned")
    world.script.fail("broken", "the <i>disk</i> is full")
    await expect(page.row(command_id).locator(".status")).to_have_text("failed")
    await expect(page.row(command_id)).to_contain_text("the <i>disk</i> is full")


async def test_values_are_shown_and_sent_as_they_are(page: DashboardPage) -> None:
    typed = '{"a": 9007199254740991, "b": 1e21, "c": 0.1, "d": -1.5e-7, "e": "9007199254740993", "f": [[{"g": null}]]}'
    await page.send(agent_id=AGENT_ID, command_type="SCRIPT", params=typed)
    assert json.loads(await page.fact("Params").inner_text()) == json.loads(typed)
    await expect(page.fact("Params")).to_contain_text('"a": 9007199254740991')
    await page.page.get_by_role("link", name="Edit and send…").click()
    params = page.page.get_by_label("Params (JSON)", exact=True)
    await expect(params).to_have_value(re.compile("9007199254740991"))
    assert json.loads(await params.input_value()) == json.loads(typed)
    for number in ("9007199254740993", "1e400", "-123456789012345678901234567890"):
        await params.fill('{"nested": [' + number + "]}")
        await page.page.get_by_role("button", name="Send", exact=True).click()
        await expect(page.page.locator("#send-params-problem")).to_contain_text("nested[0]")
        await params.fill("{")
        await page.page.get_by_role("button", name="Send", exact=True).click()
        await expect(page.page.locator("#send-params-problem")).to_contain_text("not JSON")
