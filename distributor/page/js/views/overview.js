/** The overview: agents, throughput, latency and the latest commands. */

import { summary } from "../activity.js";
import { h } from "../dom.js";
import { plural, duration } from "../format.js";
import { link } from "../router.js";
import { countsEveryEnd, latestCommands, queuedCount, runningCount } from "../store.js";
import { agentsPanel } from "./agents.js";
import { latencyChart, throughputChart } from "./charts.js";
import { commandTable, empty, panel } from "./parts.js";

const RECENT = 10;

/** @param {import("../app.js").App} app */
export function overviewView(app) {
  return h(
    "div",
    { class: "view" },
    h("h1", { class: "visually-hidden" }, "Overview"),
    tiles(app),
    agentsPanel(app, false),
    h("div", { class: "columns" }, throughputChart(app), latencyChart(app)),
    recent(app),
  );
}

/** @param {import("../app.js").App} app */
function tiles(app) {
  const { known, now } = app;
  const agents = [...known.agents.values()];
  const connected = agents.filter((agent) => agent.status !== "offline");
  const queued = queuedCount(known);
  const ended = summary(known.activity, now);
  const { running, slotsUsed, capacity, unknown } = runningCount(known);
  const more = countsEveryEnd(known, now) ? "" : "or more";
  const slots = `in ${slotsUsed} of ${capacity} slots`;
  const runningBeside = [slots, unknown && `, ${unknown} unknown`, known.agentsTruncated && ", or more"];
  return h(
    "dl",
    { class: "tiles live" },
    tile("Agents connected", String(connected.length), `of ${agents.length}${known.agentsTruncated ? " or more" : ""}`),
    tile("Running", String(running), runningBeside.filter(Boolean).join("")),
    tile("Queued", queued.count.toLocaleString("en"), queued.atLeast ? "or more" : ""),
    tile("Completed, 5 min", ended.completed.toLocaleString("en"), more),
    tile("Not completed, 5 min", ended.other.toLocaleString("en"), more),
    tile("Median latency", duration(ended.total), ""),
  );
}

/** @param {string} name @param {string} value @param {string} beside */
function tile(name, value, beside) {
  return h(
    "div",
    { class: "tile" },
    h("dt", null, name),
    h("dd", null, value, beside && [" ", h("small", null, beside)]),
  );
}

/** @param {import("../app.js").App} app */
function recent(app) {
  const commands = latestCommands(app.known, RECENT);
  return panel(
    "Latest commands",
    h(
      "span",
      { class: "end" },
      h("a", { href: link("commands", { status: "failed" }) }, "Failed only"),
      h("a", { href: link("commands") }, "All commands"),
    ),
    commands.length
      ? h("div", { class: "live" }, commandTable(commands, app))
      : empty(
          app.known.complete ? "No commands yet" : "Waiting for the bridge",
          app.known.complete && h("a", { class: "button primary", href: link("send") }, "Send a command"),
        ),
    commands.length === RECENT &&
      h("div", { class: "pager" }, h("span", { class: "quiet" }, `${plural(RECENT, "command")}, newest first`)),
  );
}
