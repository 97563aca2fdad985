/** Emergency stops: the banner that everyone sees, and the form for administrators. */

import { h } from "../dom.js";
import { foreign } from "../foreign_text.js";
import { localTime } from "../format.js";

/** @typedef {import("../app.js").App} App */
/** @typedef {import("../protocol.js").Stop} Stop */

/** @param {App} app */
export const isAdmin = (app) => app.known.roles.includes("admin");

/** One banner for each stop in force. @param {App} app */
export function stopBanners(app) {
  return app.known.stops.map((stop) =>
    h(
      "div",
      { key: `banner stop ${stop.stopId}`, class: "banner server", role: "alert" },
      h(
        "div",
        { class: "banner-inner" },
        h("span", null, stopText(app, stop)),
        isAdmin(app) && resumeButton(app, stop),
      ),
    ),
  );
}

/** @param {App} app @param {Stop} stop */
function stopText(app, { all, selectors, reason, stoppedBy, stopped }) {
  return [
    h("strong", null, "Emergency stop"),
    " for ",
    all ? "all agents" : foreign(selectors.join(", ")),
    ` since ${localTime(stopped, app.now)}, by `,
    foreign(stoppedBy),
    reason && [": ", foreign(reason)],
    ". Nothing is queued or started there until it ends.",
  ];
}

/** @param {App} app @param {Stop} stop */
function resumeButton(app, { stopId }) {
  return h("button", { type: "button", class: "small", onclick: () => app.resumeAgents(stopId) }, "Resume");
}

/** Opens the form, for administrators. @param {App} app */
export function stopButton(app) {
  if (!isAdmin(app)) return null;
  return h(
    "button",
    { type: "button", class: "danger", onclick: () => app.showDialog("emergency") },
    "Emergency stop…",
  );
}

/** Asks which agents to stop, and to confirm it. @param {App} app */
export function stopForm(app) {
  return h(
    "form",
    {
      class: "dialog-body",
      onsubmit: (/** @type {any} */ event) => {
        event.preventDefault();
        const { selectors, reason } = event.target.elements;
        const named = selectors.value.split(/[\s,]+/).filter(Boolean);
        app.stopAgents({ all: !named.length, selectors: named, reason: reason.value.trim() });
      },
    },
    h("h2", { id: "dialog-title" }, "Emergency stop"),
    h(
      "p",
      null,
      "Ends everything that runs on these agents at once. Nothing is queued or started there until an administrator ",
      "resumes them. Commands that wait stay in their queues.",
    ),
    h(
      "div",
      { class: "field" },
      h("label", { for: "selectors" }, "Agents"),
      h("input", {
        id: "selectors",
        name: "selectors",
        placeholder: "all agents",
        autocomplete: "off",
        spellcheck: "false",
      }),
      h("p", { class: "quiet" }, "Agent ids, such as web-1 or web-*, or label=value. Empty: all agents."),
    ),
    h(
      "div",
      { class: "field" },
      h("label", { for: "reason" }, "Reason"),
      h("input", { id: "reason", name: "reason", maxlength: 512, autocomplete: "off" }),
    ),
    h(
      "label",
      { class: "check" },
      h("input", { type: "checkbox", name: "sure", required: true }),
      "I want to end all work there now",
    ),
    h(
      "div",
      { class: "dialog-actions" },
      h("button", { type: "button", onclick: () => app.closeDialog() }, "Not now"),
      h("button", { type: "submit", class: "danger" }, "Stop"),
    ),
  );
}
