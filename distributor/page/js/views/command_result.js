/** The result of a command, and a late report. */

import { h, island, render } from "../dom.js";
import { isObject } from "../exact_json.js";
import { foreign, foreignJson } from "../foreign_text.js";
import { bytes, dateAndTime, localTime, plural } from "../format.js";
import { panel } from "./parts.js";

/** @typedef {import("../app.js").App} App */
/** @typedef {import("../protocol.js").Command} Command */
/** @typedef {import("../protocol.js").Result} Result */

/** @param {App} app @param {Command} command */
export function result(app, command) {
  const found = app.known.results.get(command.commandId) ?? app.detail?.sent?.result;
  if (!found) return null;
  return panel(
    "Result",
    h("span", { class: "quiet" }, resultSummary(found)),
    h(
      "div",
      { class: "panel-body view" },
      command.reason.message &&
        h("p", { class: command.status === "completed" ? "" : "bad-text" }, foreign(command.reason.message)),
      data(found, "Result data"),
    ),
  );
}

/** The last report that came after the end. @param {App} app */
export function lateReport(app) {
  const late = app.detail?.sent?.lateResult;
  if (!late) return null;
  const when = h("time", { title: dateAndTime(late.finished) }, localTime(late.finished, app.now));
  return panel(
    "Late report",
    h("span", { class: "quiet" }, resultSummary(late)),
    h(
      "div",
      { class: "panel-body view" },
      h("p", null, "The agent reported ", h("strong", null, late.state), " at ", when),
      h("p", { class: "quiet" }, "This came after the command had ended, and changes nothing."),
      late.reason.message && h("p", null, foreign(late.reason.message)),
      data(late, "Late report data"),
    ),
  );
}

/** @param {Result} result @param {string} label */
function data({ commandId, data, finished }, label) {
  return data === null || data === undefined
    ? h("p", { class: "quiet" }, "The handler returned no data.")
    : json(`${label} ${commandId} ${finished}`, data, "json", label);
}

/**
 * An immutable JSON value, rendered once because it may be large.
 * @param {string} key @param {unknown} value @param {string} look @param {string} [label]
 */
export function json(key, value, look, label) {
  const reachable = label && { tabindex: 0, role: "group", "aria-label": label };
  const draw = (/** @type {HTMLElement} */ element) => {
    render(element, foreignJson(value));
    return () => {};
  };
  return island(key, draw, { class: `mono ${look}`, ...reachable });
}

/** @param {Result} result */
function resultSummary(result) {
  const parts = [
    result.exitCode === undefined ? "" : `exit code ${result.exitCode}`,
    `${bytes(result.outputBytes)} of output`,
  ];
  if (killedLeftovers(result)) parts.push("leftover processes killed");
  const surviving = survivors(result);
  if (surviving) parts.push(`${plural(surviving, "process", "processes")} still running`);
  if (result.outputDroppedBytes) parts.push(`the first ${bytes(result.outputDroppedBytes)} no longer stored`);
  return parts.filter(Boolean).join(", ");
}

/** Whether `EXEC` reported in its data that it killed leftover processes. @param {Result} result */
const killedLeftovers = ({ data }) =>
  isObject(data) && /** @type {Record<string, unknown>} */ (data).killed_leftover_processes === true;

/** How many processes `EXEC` reported in its data that outlived the program. @param {Result} result */
function survivors({ data }) {
  const found = isObject(data) && /** @type {Record<string, unknown>} */ (data).surviving_processes;
  return Array.isArray(found) ? found.length : 0;
}
