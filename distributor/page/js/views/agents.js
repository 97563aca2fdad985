/** The agents view: status and last contact of each agent. */

import { h } from "../dom.js";
import { foreign, visible } from "../foreign_text.js";
import { duration, plural, localTime } from "../format.js";
import { link } from "../router.js";
import { agentsInOrder } from "../store.js";
import { stopButton } from "./emergency.js";
import { agentBadge, empty, pageLink, panel, when } from "./parts.js";

/** @typedef {import("../protocol.js").Agent} Agent */

const PAGE_SIZE = 100;
/** On the overview. */
const OVERVIEW_ROWS = 20;

/** @param {import("../app.js").App} app */
export function agentsView(app) {
  const actions = h("div", { class: "actions" }, stopButton(app));
  return h(
    "div",
    { class: "view" },
    h("div", { class: "heading" }, h("h1", null, "Agents"), actions),
    agentsPanel(app, true),
  );
}

/** @param {import("../app.js").App} app @param {boolean} full  with labels, types and version */
export function agentsPanel(app, full) {
  const agents = agentsInOrder(app.known);
  const connected = agents.filter((agent) => agent.status !== "offline").length;
  const size = full ? PAGE_SIZE : OVERVIEW_ROWS;
  const page = full ? pageOf(app, Math.ceil(agents.length / size)) : 1;
  const shown = agents.slice((page - 1) * size, page * size);
  return panel(
    full ? "All agents" : "Agents",
    agents.length > 0 && h("span", { class: "quiet" }, counts(app, connected)),
    agents.length ? agentTable(shown, app, full) : noAgents(app),
    agents.length > size && pager(page, agents.length, full),
  );
}

/** The page number, clamped to existing pages. @param {import("../app.js").App} app @param {number} pages */
function pageOf(app, pages) {
  return Math.max(1, Math.min(pages, Math.floor(Number(app.route.query.page)) || 1));
}

/** @param {import("../app.js").App} app @param {number} connected */
function counts({ known }, connected) {
  const { size } = known.agents;
  return `${connected.toLocaleString("en")} of ${size.toLocaleString("en")} connected`.concat(
    known.agentsTruncated ? `, only the first ${size.toLocaleString("en")} loaded` : "",
  );
}

/** @param {number} page @param {number} count @param {boolean} full */
function pager(page, count, full) {
  const pages = Math.ceil(count / PAGE_SIZE);
  const to = (/** @type {number} */ other) =>
    other < 1 || other > pages ? undefined : link("agents", { page: other > 1 ? String(other) : "" });
  if (!full) {
    return h(
      "div",
      { class: "pager" },
      h("a", { class: "button", href: to(1) }, `All ${count.toLocaleString("en")} agents`),
    );
  }
  return h(
    "nav",
    { class: "pager", "aria-label": "Pages" },
    h("span", { class: "quiet" }, `page ${page} of ${pages}`),
    pageLink("Previous", to(page - 1), "prev"),
    pageLink("Next", to(page + 1), "next"),
  );
}

/** @param {import("../app.js").App} app */
function noAgents(app) {
  if (!app.known.complete) return empty("Waiting for the bridge");
  return empty(
    "No agents yet",
    h("span", null, "Start one: ", h("code", null, "command-agent --agent=agent123 --allow-exec")),
  );
}

/** @param {Agent[]} agents @param {import("../app.js").App} app @param {boolean} full */
function agentTable(agents, app, full) {
  const names = ["Agent", "Status", "Last seen"];
  const numbers = ["Slots used", "Running", "Queued"];
  return h(
    "div",
    { class: "table live" },
    h(
      "table",
      null,
      h(
        "thead",
        null,
        h(
          "tr",
          null,
          names.map((name) => h("th", { scope: "col" }, name)),
          numbers.map((name) => h("th", { scope: "col", class: "number" }, name)),
          full && ["Types", "Labels", "Version"].map((name) => h("th", { scope: "col" }, name)),
          h("th", { scope: "col" }, h("span", { class: "visually-hidden" }, "Actions")),
        ),
      ),
      h(
        "tbody",
        null,
        agents.map((agent) => agentRow(agent, app, full)),
      ),
    ),
  );
}

/** @param {Agent} agent @param {import("../app.js").App} app @param {boolean} full */
function agentRow(agent, app, full) {
  const isAway = agent.status === "offline";
  return h(
    "tr",
    { key: agent.agentId, "data-agent": agent.agentId },
    h(
      "td",
      null,
      h(
        "a",
        { class: "row-link", href: link("commands", { agent: agent.agentId }), title: "Commands of this agent" },
        foreign(agent.agentId),
      ),
    ),
    h("td", null, agentBadge(agent), agentNotes(agent)),
    h("td", { "data-label": "seen" }, when(agent.lastSeen, app.now), away(agent, app.now)),
    h("td", { class: "number", "data-label": "slots" }, isAway ? "–" : `${agent.slotsUsed} of ${agent.capacity}`),
    h("td", { class: "number", "data-label": "running" }, isAway ? unknownRunning(agent) : String(agent.running)),
    h("td", { class: "number", "data-label": "queued" }, String(agent.queued)),
    full && [
      h("td", { class: "quiet wrap" }, listed(agent.types)),
      h("td", { class: "quiet wrap" }, listed(labelsOf(agent))),
      h("td", { class: "quiet wrap", title: plural(agent.epoch, "session") }, foreign(agent.version)),
    ],
    h("td", { class: "number" }, h("a", { href: link("send", { agent: agent.agentId }) }, "Send…")),
  );
}

/** Why an agent is degraded, with messages as tooltips, and how late its handlers are. @param {Agent} agent */
export function agentNotes({ status, problems, handlerLag }) {
  const isLate = status === "degraded" && !problems.length;
  return [
    isLate && h("div", { class: "quiet", title: "older than two heartbeat intervals" }, "late heartbeat"),
    ...problems.map(({ code, message }) => h("div", { class: "quiet", title: visible(message) }, foreign(code))),
    handlerLag > 0 && h("div", { class: "quiet" }, `handlers ${duration(handlerLag)} late`),
  ];
}

/** @param {Agent} agent */
const labelsOf = (agent) => Object.entries(agent.labels).map(([name, value]) => `${name}=${value}`);

/** A comma-separated list with each text isolated. @param {string[]} texts */
const listed = (texts) => texts.map((text, at) => [at > 0 && ", ", foreign(text)]);

/** Commands an offline agent had not finished. @param {Agent} agent */
function unknownRunning({ running }) {
  if (!running) return "–";
  const title = "assigned before the agent went offline; may no longer be running";
  return h("span", { class: "quiet", title }, `${running}?`);
}

/** @param {Agent} agent @param {number} now */
function away(agent, now) {
  return agent.awaySince ? h("span", { class: "quiet" }, ` · away since ${localTime(agent.awaySince, now)}`) : null;
}
