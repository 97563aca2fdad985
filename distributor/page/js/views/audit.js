/** The audit view, for administrators: who did what, from where and when. */

import { h } from "../dom.js";
import { foreign } from "../foreign_text.js";
import { inputTime, shortId, zone } from "../format.js";
import { commandLink, link } from "../router.js";
import { empty, pageLink, panel } from "./parts.js";

/** @typedef {import("../audit_list.js").AuditEntry} AuditEntry */

const OUTCOMES = ["", "success", "attempt", "refused", "failed"];

/** @param {import("../app.js").App} app */
export function auditView(app) {
  return h(
    "div",
    { class: "view" },
    h("div", { class: "heading" }, h("h1", null, "Audit")),
    filters(app),
    panel("Who did what", false, ...listed(app)),
  );
}

/** @param {import("../app.js").App} app */
function filters({ route: { query } }) {
  return h(
    "form",
    { class: "filters", role: "search", "aria-label": "Filter the audit trail", onsubmit: submit },
    field("actor", "Actor", query.actor),
    field("agent", "Agent", query.agent),
    field("command", "Command", query.command),
    field("type", "Type", query.type, "such as agent."),
    outcome(query.outcome),
    time("since", "Since", query.since),
    time("until", "Until", query.until),
    h("button", { class: "button", type: "submit" }, "Filter"),
  );
}

/** @param {string} name @param {string} label @param {string} [value] @param {string} [placeholder] */
const field = (name, label, value = "", placeholder = "any") =>
  h(
    "div",
    { class: "field" },
    h("label", { for: `audit-${name}` }, label),
    h("input", { id: `audit-${name}`, name, value, placeholder, spellcheck: false, autocomplete: "off" }),
  );

/** @param {string} [value] */
const outcome = (value = "") =>
  h(
    "div",
    { class: "field" },
    h("label", { for: "audit-outcome" }, "Outcome"),
    h(
      "select",
      { id: "audit-outcome", name: "outcome", value },
      OUTCOMES.map((one) => h("option", { key: one, value: one }, one || "any")),
    ),
  );

/** @param {string} name @param {string} label @param {string} [value]  ms since the epoch */
const time = (name, label, value) =>
  h(
    "div",
    { class: "field time" },
    h("label", { for: `audit-${name}` }, `${label} (${zone(Number(value) || Date.now())})`),
    h("input", { id: `audit-${name}`, name, type: "datetime-local", value: inputTime(Number(value)) }),
  );

/** @param {SubmitEvent} event */
function submit(event) {
  event.preventDefault();
  const form = new FormData(/** @type {HTMLFormElement} */ (event.target));
  const query = /** @type {Record<string, string>} */ (Object.fromEntries(form));
  location.hash = link("audit", { ...query, since: moment(query.since), until: moment(query.until) });
}

/** ms since the epoch; empty for no time. @param {string} input  of a `datetime-local` input */
function moment(input) {
  const time = new Date(input).getTime();
  return Number.isNaN(time) ? "" : String(time);
}

/** @param {import("../app.js").App} app */
function listed(app) {
  const { phase, entries, nextPageToken, problem } = app.audit.listed;
  if (phase === "error") return [empty("The audit trail cannot be read", foreign(problem))];
  if (!entries.length) return [empty(phase === "loading" ? "Reading" : "No entries here")];
  const older = nextPageToken && link("audit", { ...app.route.query, page: nextPageToken });
  return [
    h(
      "div",
      { class: "table", "aria-busy": phase === "loading" },
      h("table", null, heading(), h("tbody", null, entries.map(row))),
    ),
    h("nav", { class: "pager", "aria-label": "Pages" }, pageLink("Older", older || undefined, "next")),
  ];
}

const NAMES = ["No.", "Time", "What", "Outcome", "Who", "From", "About"];
const heading = () => h("thead", null, h("tr", null, NAMES.map((name) => h("th", { scope: "col" }, name))));

/** @param {AuditEntry} entry */
function row(entry) {
  return h(
    "tr",
    { key: String(entry.sequence) },
    h("td", null, String(entry.sequence)),
    h("td", null, (entry.time ?? "").replace("T", " ")),
    h("td", null, foreign(entry.type ?? "unreadable")),
    h("td", null, entry.tampered ? h("strong", null, "TAMPERED") : foreign(entry.outcome ?? "")),
    h("td", null, foreign(who(entry))),
    h("td", null, foreign(entry.address ?? "")),
    h("td", { class: "wrap" }, about(entry)),
  );
}

/** @param {AuditEntry} entry */
function who({ actorKind = "", actor = "", onBehalfOf = "" }) {
  const name = actor ? `${actorKind} ${actor}` : actorKind;
  return onBehalfOf ? `${onBehalfOf} via ${name}` : name;
}

/** @param {AuditEntry} entry */
function about({ agentId, commandIds = [], count = 1, reason, details = {} }) {
  const texts = [agentId, reason, ...Object.entries(details).map(([name, value]) => `${name}=${value}`)];
  const more = count - commandIds.length;
  return [
    ...commandIds.slice(0, 1).map((id) => {
      const shown = foreign(shortId(id), { class: "mono" });
      return h("a", { href: commandLink(id), title: id }, shown);
    }),
    count > 1 && more + commandIds.length > 1 && h("span", { class: "quiet" }, ` and ${count - 1} more `),
    foreign(` ${texts.filter(Boolean).join(" ")}`),
  ];
}
