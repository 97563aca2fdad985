import { backoff } from "/js/backoff.js";
import { h, island, render } from "/js/dom.js";
import { ago, bytes, duration, dateAndTime, elapsed, localTimeMs } from "/js/format.js";
import { inputTime, localTime, splitParams, zone } from "/js/format.js";
import { agentOf } from "/js/protocol.js";
import { commandLink, link, parseRoute } from "/js/router.js";
import { withoutEscapes } from "/js/terminal.js";
import { agentNotes } from "/js/views/agents.js";
import { cancelText, doubtNotice } from "/js/views/command_history.js";
import { agentBadge, commandBadge } from "/js/views/parts.js";
import { same } from "./check.js";

/** An element with some content, outside the page. */
function rendered(...children) {
  const container = document.createElement("div");
  render(container, ...children);
  return container;
}

export const tests = {
  "markup in data stays text"() {
    const container = rendered(h("p", { title: "<b>" }, "<img src=x onerror=alert(1)>"));
    same([container.querySelector("img"), container.textContent], [null, "<img src=x onerror=alert(1)>"]);
  },
  "rows keep their element when their order changes"() {
    const rows = (...keys) =>
      h(
        "ul",
        null,
        keys.map((key) => h("li", { key }, key)),
      );
    const container = rendered(rows("a", "b", "c"));
    const before = [...container.querySelectorAll("li")];
    render(container, rows("c", "new", "a"));
    const after = [...container.querySelectorAll("li")];
    same(
      after.map((row) => row.textContent),
      ["c", "new", "a"],
    );
    same([after[0] === before[2], after[2] === before[0]], [true, true]);
  },
  "an attribute that is gone is removed, and parts come and go in their place"() {
    const container = rendered(h("p", { title: "x" }, "a", h("b", null, "b"), "c"));
    render(container, h("p", null, "a", null, "c", h("i", null, "d")));
    same(container.innerHTML, "<p>ac<i>d</i></p>");
  },
  "an agent shows its status, its problems and how late its handlers are"() {
    const lastSeenTime = "2026-03-01T12:00:00.000Z";
    const document = { agentId: "a", running: 0, lastSeenTime, problems: [], handlerLagSeconds: 0 };
    const shown = (changes) => {
      const agent = agentOf({ ...document, ...changes });
      const container = rendered(agentBadge(agent), agentNotes(agent));
      return [container.textContent, container.querySelector("[title='no <b> room']") !== null];
    };
    same(shown({ status: "online" }), ["online", false]);
    same(shown({ status: "draining" }), ["draining", false]);
    same(shown({ status: "degraded" }), ["degradedlate heartbeat", false]);
    same(
      shown({
        status: "degraded",
        problems: [{ code: "journal_full", message: "no <b> room" }],
        handlerLagSeconds: 1.5,
      }),
      ["degradedjournal_fullhandlers 1.50 s late", true],
    );
  },
  "a command whose run is in doubt says so in plain words"() {
    const shown = (command) => [commandBadge, doubtNotice].map((part) => rendered(part(command)).textContent);
    const running = { status: "running", state: "assigned", reason: { code: "", message: "" } };
    same(shown(running), ["assigned", ""]);
    const unconfirmed = { ...running, reason: { code: "unconfirmed", message: "attempt 1 was sent" } };
    const doubt = "Whether this command runs is not known: it was sent, and its agent has not answered. ";
    same(shown(unconfirmed), [
      "unconfirmed",
      `${doubt}It goes on once the agent is back; otherwise it ends as agent_lost.`,
    ]);
    same(
      shown({ ...unconfirmed, cancelRequested: 1 })[1],
      `${doubt}The agent is told to stop it once it is back; otherwise it ends as agent_lost.`,
    );
    same(doubtNotice({ ...unconfirmed, status: "failed", state: "timeout" }), "");
    same(cancelText("unconfirmed"), "; whether it runs is not known");
    same([cancelText(undefined), cancelText("of a later version")], ["", ""]);
  },
  "an island is mounted once and undone when it goes"() {
    const seen = [];
    const one = () =>
      island("one", (element) => {
        seen.push(`mounted in ${element.parentElement.tagName}`);
        return () => seen.push("undone");
      });
    const container = rendered(h("section", null, one()));
    render(container, h("section", null, "now", one()));
    render(container, h("section", null));
    same(seen, ["mounted in SECTION", "undone"]);
  },
  "routes and links are each other's inverse"() {
    same(parseRoute(""), { view: "overview", id: "", query: {} });
    same(parseRoute(link("commands", { status: "failed", agent: "" })), {
      view: "commands",
      id: "",
      query: { status: "failed" },
    });
    same(parseRoute("#/commands/a%2Fb").id, "a/b");
    same(parseRoute("#/nonsense/%E0").view, "missing");
  },
  "waits grow, are bounded, and differ"() {
    same(
      [1, 2, 3, 9].map((attempt) => backoff(attempt, () => 0.999999)),
      [499, 999, 1999, 14999],
    );
    same(
      backoff(9, () => 0),
      100,
    );
  },
  "times and sizes for people"() {
    same([0, 4, 0.25, 999, 1234, 61_000, 3_600_000, 90_000_000, null].map(duration), [
      "0 ms",
      "4 ms",
      "0.3 ms",
      "999 ms",
      "1.23 s",
      "1 min 1 s",
      "1 h",
      "1 d 1 h",
      "–",
    ]);
    same([elapsed(59_900), elapsed(61_500), elapsed(-5)], ["59 s", "1 min 1 s", "0 s"]);
    same(
      [ago(1_000, 2_000), ago(1_000, 31_000), ago(0, 5), ago(1, 7_200_001)],
      ["just now", "30 s ago", "never", "2 h ago"],
    );
    same([bytes(1023), bytes(1024), bytes(3_000_000)], ["1023 B", "1.0 KiB", "2.9 MiB"]);
  },
  "a time has its zone, and its date where it is not today's"() {
    const time = new Date(2026, 0, 2, 3, 4, 5, 67).getTime();
    const at = zone(time);
    same(/^UTC([+−]\d\d?(:\d\d)?)?$/.test(at), true);
    same([localTime(time, time), localTimeMs(time, time)], [`03:04:05 ${at}`, `03:04:05.067 ${at}`]);
    same(localTime(time, time + 86_400_000), `2026-01-02 03:04:05 ${at}`);
    same(dateAndTime(time), `2026-01-02 03:04:05.067 ${at}`);
  },
  "a time for an input, and back"() {
    const time = new Date(2026, 0, 2, 3, 4).getTime();
    same([inputTime(time), new Date(inputTime(time)).getTime(), inputTime(NaN)], ["2026-01-02T03:04", time, ""]);
  },
  "params as a command line and the rest"() {
    same(splitParams({ argv: ["sh", "-c", "it's", ""], cwd: "/" }), {
      words: ["sh", "-c", "'it'\\''s'", "''"],
      rest: { cwd: "/" },
    });
    for (const params of [{ reason: "a b" }, { argv: ["a", 2] }, { argv: "a" }]) {
      same(splitParams(params), { words: null, rest: params });
    }
  },
  "an address is made of any text"() {
    same(parseRoute(commandLink("a/b\ud800")).id, "a/b\ufffd");
  },
  "without a terminal, escape sequences are taken out"() {
    const hostile =
      "\x1b[31mred\x1b[0m \x1b]52;c;aGk=\x07\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\ \x1bPq#0\x1b\\end\r\n\x9bx\tok";
    same(withoutEscapes(hostile), "red link end\nx\tok");
  },
};
