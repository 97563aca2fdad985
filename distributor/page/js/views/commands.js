/** The commands view: one page of commands, filtered by the server. */

import { PAGE_SIZE, TIMES } from "../command_list.js";
import { h } from "../dom.js";
import { visible } from "../foreign_text.js";
import { inputTime, zone } from "../format.js";
import { link } from "../router.js";
import { knownTypes } from "../store.js";
import { commandTable, empty, pageLink, panel, problem } from "./parts.js";

/** @typedef {import("../app.js").App} App */

const STATUSES = [
  ["", "any"],
  ["queued", "queued"],
  ["assigned", "assigned"],
  ["completed", "completed"],
  ["failed", "failed or timeout"],
  ["timeout", "timeout"],
  ["cancelled", "cancelled"],
];

/** @param {App} app */
export function commandsView(app) {
  return h(
    "div",
    { class: "view" },
    h("div", { class: "heading" }, h("h1", null, "Commands")),
    filters(app),
    listed(app),
  );
}

/** @param {App} app */
function filters(app) {
  const { query } = app.route;
  const set = (/** @type {Record<string, string>} */ change) =>
    app.navigate(link("commands", { ...app.list.queryOf(""), ...change }));
  const onlyFailed = query.status === "failed";
  const filtered = ["status", "agent", "type", "within", "until"].some((name) => query[name]);
  return h(
    "form",
    {
      class: "filters",
      role: "search",
      "aria-label": "Filter commands",
      onsubmit: (/** @type {Event} */ event) => event.preventDefault(),
    },
    h(
      "button",
      {
        type: "button",
        id: "failed-only",
        "aria-pressed": String(onlyFailed),
        onclick: () => set({ status: onlyFailed ? "" : "failed" }),
      },
      "Failed only",
    ),
    choice("Status", "filter-status", STATUSES, query.status, (status) => set({ status })),
    suggestion("Agent", "filter-agent", query.agent, [...app.known.agents.keys()], (agent) => set({ agent })),
    suggestion("Type", "filter-type", query.type, knownTypes(app.known), (type) => set({ type })),
    choice("Queued", "filter-within", TIMES, query.within, (within) => set({ within })),
    until(query.until, (time) => set({ until: time })),
    filtered && h("button", { type: "button", onclick: () => app.navigate(link("commands")) }, "Clear"),
  );
}

/**
 * @param {string} name
 * @param {string} id
 * @param {readonly (readonly string[])[]} options  values and labels
 * @param {string | undefined} value
 * @param {(value: string) => void} set
 */
function choice(name, id, options, value, set) {
  return h(
    "div",
    { class: "field" },
    h("label", { for: id }, name),
    h(
      "select",
      { id, value: value ?? "", onchange: (/** @type {any} */ event) => set(event.target.value) },
      options.map(([option, word]) => h("option", { key: option, value: option }, word)),
    ),
  );
}

/** @param {string | undefined} value  ms since the epoch @param {(value: string) => void} set */
function until(value, set) {
  return h(
    "div",
    { class: "field" },
    h("label", { for: "filter-until" }, `Until (${zone(Number(value) || Date.now())})`),
    h("input", {
      id: "filter-until",
      type: "datetime-local",
      value: inputTime(Number(value)),
      onchange: (/** @type {any} */ event) => {
        const time = new Date(event.target.value).getTime();
        set(Number.isNaN(time) ? "" : String(time));
      },
    }),
  );
}

/**
 * @param {string} name
 * @param {string} id
 * @param {string | undefined} value
 * @param {string[]} known
 * @param {(value: string) => void} set
 */
function suggestion(name, id, value, known, set) {
  return h(
    "div",
    { class: "field" },
    h("label", { for: id }, name),
    h("input", {
      id,
      value: visible(value ?? ""),
      placeholder: "any",
      list: `${id}-known`,
      autocomplete: "off",
      spellcheck: "false",
      onchange: (/** @type {any} */ event) => set(event.target.value.trim()),
    }),
    h(
      "datalist",
      { id: `${id}-known` },
      known.map((option) => h("option", { key: option, value: visible(option) })),
    ),
  );
}

/** @param {App} app */
function listed(app) {
  const { phase, rows, problem: what } = app.list.listed;
  if (phase === "error") return problem(`Could not load the commands: ${what}`, () => app.list.read());
  const live = rows.map((command) => app.latest(command));
  return panel(
    "Commands",
    h("span", { class: "quiet", role: "status" }, phase === "loading" ? "loading…" : found(app)),
    rows.length ? h("div", { class: "live" }, commandTable(live, app)) : nothing(app, phase === "loading"),
    pager(app),
  );
}

/** @param {App} app */
function found(app) {
  const { rows, nextPageToken } = app.list.listed;
  const scope = nextPageToken || app.route.query.page ? " on this page" : "";
  return `${rows.length || "none"}${scope}, newest first`;
}

/** @param {App} app @param {boolean} loading */
function nothing(app, loading) {
  if (loading) return empty("Loading…");
  const filtered = Object.values(app.route.query).some(Boolean);
  if (filtered) return empty("No matching commands", h("a", { href: link("commands") }, "Show all commands"));
  return empty("No commands yet", h("a", { class: "button primary", href: link("send") }, "Send a command"));
}

/** @param {App} app */
function pager(app) {
  const { nextPageToken } = app.list.listed;
  const { query } = app.route;
  if (!nextPageToken && !query.page) return null;
  const before = app.list.previousPage();
  const to = (/** @type {string | undefined} */ page) =>
    page === undefined ? undefined : link("commands", app.list.queryOf(page));
  return h(
    "nav",
    { class: "pager", "aria-label": "Pages" },
    h("span", { class: "quiet" }, `${PAGE_SIZE} per page`),
    pageLink("Newest", query.page ? to("") : undefined),
    pageLink("Newer", to(before), "prev"),
    pageLink("Older", to(nextPageToken || undefined), "next"),
  );
}
