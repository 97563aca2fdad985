/** Components shared by the views. */

import { h } from "../dom.js";
import { foreign, visible } from "../foreign_text.js";
import { ago, dateAndTime, localTime, shortId } from "../format.js";
import { hasEnded } from "../protocol.js";
import { commandLink, link } from "../router.js";
import { took } from "../run_time.js";
import { agentAbsence } from "../store.js";

/** @typedef {import("../app.js").App} App */
/** @typedef {import("../protocol.js").Command} Command */
/** @typedef {import("../protocol.js").Agent} Agent */

const COMMAND_LOOKS = {
  queued: "idle",
  assigned: "busy",
  completed: "good",
  failed: "bad",
  timeout: "bad",
  cancelled: "warn",
};
const AGENT_LOOKS = { online: "good", busy: "busy", degraded: "warn", draining: "warn", offline: "idle" };

/** A distinct shape per look, for users who cannot distinguish the colours. */
const SHAPES = {
  good: "M2 5.5 L4.2 7.7 L8.2 2.8",
  bad: "M2.2 2.2 L7.8 7.8 M7.8 2.2 L2.2 7.8",
  warn: "M5 1.5 V5.6 M5 7.9 V8.4",
  busy: "M3 1.8 L8 5 L3 8.2 Z",
  idle: "M5 2 A3 3 0 1 1 4.99 2",
  lost: "M1.8 3.2 H8.2 M1.8 6.8 H8.2 M7.6 1.2 L2.4 8.8",
};

/** @param {string} look @param {string} word @param {string} [title] */
export function badge(look, word, title) {
  return h(
    "span",
    { class: `status ${look}`, title },
    h(
      "svg",
      { viewBox: "0 0 10 10", width: 10, height: 10, "aria-hidden": "true" },
      h("path", {
        d: SHAPES[/** @type {keyof typeof SHAPES} */ (look)],
        fill: "none",
        stroke: "currentColor",
        "stroke-width": 1.8,
        "stroke-linecap": "round",
        "stroke-linejoin": "round",
      }),
    ),
    word,
  );
}

/** The exact status, or what is in doubt or under way while assigned or queued. @param {Command} command */
export function commandBadge(command) {
  const { state, agentAwaySince } = command;
  if (state === "assigned" && command.cancelStage === "could_not_stop")
    return badge("bad", "not stopped", "cancelled, but its agent could not stop it");
  if (state === "assigned" && command.reason.code === "unconfirmed")
    return badge("warn", "unconfirmed", "assigned; whether it runs is not known");
  if (state === "assigned" && agentAwaySince)
    return badge("warn", "agent away", "assigned; may no longer be running");
  if (command.cancelRequested && !hasEnded(command)) return badge("warn", "cancelling", state);
  return badge(COMMAND_LOOKS[state] ?? "idle", state);
}

/** @param {Agent} agent */
export function agentBadge(agent) {
  return badge(AGENT_LOOKS[agent.status] ?? "idle", agent.status, agent.state);
}

/**
 * The age of a time, with the exact time as the tooltip.
 * @param {number | undefined} time
 * @param {number} now
 */
export function when(time, now) {
  return time
    ? h("time", { datetime: new Date(time).toISOString(), title: dateAndTime(time) }, ago(time, now))
    : "never";
}

/** @param {string} title @param {import("../dom.js").Child} end @param {...import("../dom.js").Child} body */
export function panel(title, end, ...body) {
  return h(
    "section",
    { class: "panel", "aria-label": title },
    h("div", { class: "panel-head" }, h("h2", null, title), end),
    body,
  );
}

/** @param {string} title @param {...import("../dom.js").Child} body */
export function empty(title, ...body) {
  return h("div", { class: "empty" }, h("strong", null, title), body);
}

/** @param {string} text @param {(() => void) | null} again */
export function problem(text, again) {
  return h(
    "div",
    { class: "problem-box", role: "alert" },
    foreign(text),
    again && [" ", h("button", { class: "small", type: "button", onclick: again }, "Try again")],
  );
}

/** @param {Command[]} commands @param {App} app */
export function commandTable(commands, app) {
  const asked = commands.some(({ requestedBy }) => requestedBy);
  return h(
    "div",
    { class: "table" },
    h(
      "table",
      null,
      h(
        "thead",
        null,
        h(
          "tr",
          null,
          ["Status", "Command", "Agent", "Params and reason"].map((name) => h("th", { scope: "col" }, name)),
          asked && h("th", { scope: "col" }, "Requested by"),
          h("th", { scope: "col", class: "number" }, "Priority"),
          h("th", { scope: "col", class: "number" }, "Run time"),
          h("th", { scope: "col", class: "number" }, "Queued"),
        ),
      ),
      h(
        "tbody",
        null,
        commands.map((command) => commandRow(command, app, asked)),
      ),
    ),
  );
}

/** @param {Command} command @param {App} app @param {boolean} asked  whether there is a column of requesters */
function commandRow(command, app, asked) {
  const { now } = app;
  return h(
    "tr",
    { key: command.commandId, "data-command": command.commandId },
    h("td", null, commandBadge(command)),
    h(
      "td",
      null,
      h(
        "a",
        { class: "row-link", href: commandLink(command.commandId), title: visible(command.commandId) },
        foreign(command.type),
        " ",
        foreign(shortId(command.commandId), { class: "mono" }),
      ),
    ),
    h("td", null, h("a", { href: link("commands", { agent: command.agentId }) }, foreign(command.agentId))),
    what(command, app),
    asked && requestedBy(command),
    h("td", { class: "number quiet", "data-label": "priority" }, String(command.priority)),
    h("td", { class: "number", "data-label": "took" }, took(command, now, app.asOf())),
    h("td", { class: "number quiet" }, when(command.receipts.queued, now)),
  );
}

/** @param {Command} command */
function requestedBy({ requestedBy: by }) {
  return h("td", { class: "quiet", "data-label": by ? "by" : null }, by && foreign(by.name));
}

/** Params summary, and the reason for the status. @param {Command} command @param {App} app */
function what(command, app) {
  const { paramsSummary } = command;
  const why = hasEnded(command) ? command.reason.message : commandAbsence(app, command) || command.reason.message;
  return h(
    "td",
    { class: "wide cut quiet", title: [paramsSummary, why].filter(Boolean).map(visible).join("\n") },
    paramsSummary && foreign(paramsSummary, { class: "mono" }),
    paramsSummary && why && " · ",
    why && foreign(why),
  );
}

/**
 * Since when the agent of a live command is offline; empty if it is connected.
 * @param {App} app @param {Command} command
 */
export function commandAbsence({ known, now }, { state, agentId, agentAwaySince }) {
  if (state === "queued") return agentAbsence(known, agentId, now);
  return state === "assigned" && agentAwaySince ? `agent away since ${localTime(agentAwaySince, now)}` : "";
}

/**
 * A link to another page of a list. Disabled rather than removed if there is no such page, so that repeated clicks
 * never hit its neighbour.
 * @param {string} name @param {string | undefined} href @param {string} [rel]
 */
export function pageLink(name, href, rel) {
  const lacking = href === undefined ? { role: "link", "aria-disabled": "true" } : { href };
  return h("a", { key: name, class: "button", rel, ...lacking }, name);
}
