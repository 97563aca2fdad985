/** The command view: timeline, live output and result. */

import { h, island } from "../dom.js";
import { foreign } from "../foreign_text.js";
import {
  bytes,
  elapsed,
  plural,
  dateAndTime,
  duration,
  localTimeMs,
  localTime,
  shortId,
  splitParams,
} from "../format.js";
import { STDERR_MARK } from "../line_marker.js";
import { STAGES, hasEnded } from "../protocol.js";
import { commandLink, link } from "../router.js";
import { runTimeText } from "../run_time.js";
import { runsText } from "../send_form.js";
import { openScreen } from "../terminal.js";
import { attempts, cancelText, doubtNotice } from "./command_history.js";
import { json, lateReport, result } from "./command_result.js";
import { commandAbsence, commandBadge, empty, panel, problem } from "./parts.js";

/** @typedef {import("../app.js").App} App */
/** @typedef {import("../protocol.js").Command} Command */

const STEPS = {
  queued: "Queued",
  assigned: "Assigned",
  sent: "Sent",
  acknowledged: "Acknowledged",
  started: "Started",
  finished: "Finished",
};

/** @param {App} app */
export function commandView(app) {
  const detail = /** @type {import("../command_detail.js").CommandDetail} */ (app.detail);
  const command = app.latest(detail.sent?.command ?? app.known.newest.get(detail.commandId) ?? null);
  if (detail.phase === "missing" && !command) return missing(app);
  if (!command) {
    return detail.phase === "error"
      ? problem(`Could not load the command: ${detail.problem}`, () => detail.read())
      : empty("Loading…");
  }
  return h(
    "div",
    { class: "view", key: detail.commandId },
    heading(app, command),
    absenceNotice(app, command),
    doubtNotice(command),
    detail.phase === "error" &&
      problem(`Could not load params and result: ${detail.problem}`, () => detail.read()),
    detail.sent?.params === null &&
      problem("Params not loaded: the server is unavailable.", () => detail.read()),
    h(
      "div",
      { class: "command-columns", key: "columns" },
      h("div", { class: "view" }, output(app, command), result(app, command), lateReport(app)),
      h("div", { class: "view live" }, timeline(command, app), attempts(app), facts(app, command)),
    ),
  );
}

/** @param {App} app */
function missing(app) {
  return h(
    "div",
    { class: "panel" },
    empty(
      "Command not found",
      h("span", null, "Ended commands are kept for a limited time. ", foreign(app.route.id, { class: "mono" })),
      h("a", { href: link("commands") }, "All commands"),
    ),
  );
}

/** @param {App} app @param {Command} command */
function heading(app, command) {
  const params = app.detail?.sent?.params;
  const may = app.canSend();
  return h(
    "div",
    { class: "heading" },
    h("h1", null, foreign(command.type), " ", foreign(shortId(command.commandId), { class: "mono quiet" })),
    h("span", { role: "status", class: "live" }, commandBadge(command)),
    h(
      "div",
      { class: "actions" },
      !hasEnded(command) &&
        h(
          "button",
          {
            type: "button",
            class: "danger",
            disabled: !may || Boolean(command.cancelRequested),
            onclick: () => app.cancel(command.commandId),
          },
          command.cancelRequested ? "Cancelling…" : "Cancel",
        ),
      hasEnded(command) &&
        h("button", { type: "button", disabled: !may || !params, onclick: () => app.retry(command) }, "Retry"),
      h("a", { class: "button", href: link("send", { from: command.commandId }) }, "Edit and send…"),
    ),
  );
}

/** Notice that the agent is offline. @param {App} app @param {Command} command */
function absenceNotice(app, command) {
  const absence = commandAbsence(app, command);
  if (!absence) return null;
  const text =
    command.state === "queued"
      ? `Queued: agent ${command.agentId} is ${absence}.`
      : `Agent ${command.agentId} has been away since ${localTime(command.agentAwaySince ?? 0, app.now)}. ` +
        "The command may no longer be running. If the agent does not come back, it ends at its time limit.";
  return h("p", { class: "notice", role: "status", key: "absence" }, foreign(text));
}

/** @param {App} app @param {Command} command */
function output(app, command) {
  const detail = /** @type {import("../command_detail.js").CommandDetail} */ (app.detail);
  const { stdout, stderr } = detail.feed.received;
  const ended = hasEnded(command);
  return panel(
    "Output",
    [
      h("span", { class: "quiet" }, outputSummary(stdout, stderr, ended, detail.look)),
      detail.feed.missing > 0 && h("span", { class: "bad-text" }, `${bytes(detail.feed.missing)} no longer stored`),
      !app.vendored.terminal &&
        h("span", { class: "quiet" }, "plain text: xterm.js is not installed with this bridge"),
      (stdout > 0 || stderr > 0) && outputActions(app, detail),
    ],
    island(
      `output ${detail.commandId} ${detail.look}`,
      (element) => {
        const screen = openScreen(element, app.vendored.terminal, detail.look);
        detail.attach(screen);
        return () => {
          detail.detach(screen);
          screen.dispose();
        };
      },
      { class: `terminal${ended && !stdout && !stderr ? " unused" : ""}${detail.look === "raw" ? " raw" : ""}` },
    ),
  );
}

/** @param {App} app @param {import("../command_detail.js").CommandDetail} detail */
function outputActions(app, detail) {
  const look = (/** @type {"terminal" | "raw"} */ name, /** @type {string} */ word) =>
    h(
      "button",
      {
        type: "button",
        class: "small",
        "aria-pressed": String(detail.look === name),
        onclick: () => detail.setLook(name),
      },
      word,
    );
  return h(
    "div",
    { class: "end output-actions" },
    look("terminal", "Terminal"),
    look("raw", "Raw"),
    h("button", { type: "button", class: "small", onclick: () => app.copyOutput() }, "Copy"),
    h("button", { type: "button", class: "small", onclick: () => app.downloadOutput() }, "Download"),
  );
}

/** @param {number} stdout @param {number} stderr @param {boolean} ended @param {"terminal" | "raw"} look */
function outputSummary(stdout, stderr, ended, look) {
  if (!stdout && !stderr) return ended ? "no output" : "no output yet";
  const mark = look === "raw" ? "in red" : `marked ${STDERR_MARK}`;
  return stderr ? `${bytes(stdout)} stdout, ${bytes(stderr)} stderr (${mark})` : bytes(stdout);
}

/** @param {Command} command @param {App} app */
function timeline(command, app) {
  /** @type {number | undefined} */
  let last;
  const steps = STAGES.map((stage) => {
    const at = command.receipts[stage];
    const took = at !== undefined && last !== undefined ? at - last : null;
    if (at !== undefined) last = at;
    return step(stage, at, took, command, app.now);
  });
  const { queued, finished } = command.receipts;
  return panel(
    "Timeline",
    h(
      "span",
      { class: "quiet end" },
      finished && queued ? `${duration(finished - queued)} total` : runTimeText(command, app.now, app.asOf()),
    ),
    h("ol", { class: "timeline panel-body" }, steps),
  );
}

/**
 * @param {keyof typeof STEPS} stage
 * @param {number | undefined} at
 * @param {number | null} took  ms since the previous step
 * @param {Command} command
 * @param {number} now
 */
function step(stage, at, took, command, now) {
  const ended = stage === "finished" && hasEnded(command) ? (command.status === "completed" ? " good" : " bad") : "";
  return h(
    "li",
    { key: stage, class: at === undefined ? "missing" : `passed${ended}`, "data-stage": stage },
    h("span", { class: "step" }, STEPS[stage]),
    h("span", { class: "took" }, took === null ? "" : `+${duration(took)}`),
    h(
      "span",
      { class: "at" },
      at === undefined ? "not yet" : h("time", { title: dateAndTime(at) }, localTimeMs(at, now)),
    ),
  );
}

/** @param {App} app @param {Command} command */
function facts(app, command) {
  const sent = app.detail?.sent;
  const { reason } = command;
  return panel(
    "Command",
    null,
    h(
      "dl",
      { class: "facts panel-body" },
      fact("ID", foreign(command.commandId, { class: "mono" })),
      fact("Agent", h("a", { href: link("commands", { agent: command.agentId }) }, foreign(command.agentId))),
      fact("Type", foreign(command.type)),
      links(app, command),
      command.requestedBy && fact("Requested by", requester(command.requestedBy)),
      fact("Status", command.state),
      reason.code &&
        fact("Reason", foreign(reason.code, { class: "mono" }), !hasEnded(command) && [" ", foreign(reason.message)]),
      command.exitCode !== undefined && fact("Exit code", String(command.exitCode)),
      fact("Priority", String(command.priority)),
      fact("Attempt", command.attempt ? plural(command.attempt, "delivery", "deliveries") : "not delivered yet"),
      command.state === "assigned" &&
        sent?.progress &&
        fact("Progress", `silent for ${elapsed(app.now - sent.progress)}`),
      command.cancelRequested &&
        fact("Cancel", `requested at ${localTime(command.cancelRequested, app.now)}${cancelText(command.cancelStage)}`),
      limits(sent),
      sent?.params && paramsDetails(command.commandId, sent.params),
    ),
  );
}

/** @param {import("../protocol.js").Requester} by */
function requester({ name, through, address }) {
  const via = [through && `through ${through}`, address && `from ${address}`].filter(Boolean).join(", ");
  return [foreign(name), via && [" ", foreign(via, { class: "quiet" })]];
}

/**
 * The command that it repeats, and the one that repeats it if that was queued on this page.
 * @param {App} app @param {Command} command
 */
function links(app, command) {
  const to = (/** @type {string} */ id) => h("a", { class: "mono", href: commandLink(id) }, shortId(id));
  const retryOf = app.detail?.sent?.retryOf;
  const retriedAs = app.retries.get(command.commandId);
  return [retryOf && fact("Retry of", to(retryOf)), retriedAs && fact("Retried as", to(retriedAs))];
}

/**
 * `argv` as a shell command line, other params as JSON, where `"2"` and `2` differ.
 * @param {string} commandId @param {Record<string, any>} params
 */
function paramsDetails(commandId, params) {
  const { words, rest } = splitParams(params);
  const hasRest = Object.keys(rest).length > 0;
  const line = words?.map((word, at) => [at > 0 && " ", foreign(word)]);
  return [
    line && fact("Command line", h("code", { class: "command-line" }, line)),
    hasRest && fact("Params", json(`params ${commandId}`, rest, "command-line")),
    !line && !hasRest && fact("Params", "none"),
  ];
}

/** @param {import("../send_form.js").Sent | undefined} sent */
function limits(sent) {
  const { timeLimitSeconds: run, idleLimitSeconds: idle, queueTtlSeconds: wait, slots, maxRuns } = sent ?? {};
  const runs = runsText(sent?.maxRunsByReason);
  return [
    run !== undefined && fact("Time limit", duration(run * 1000)),
    idle !== undefined && fact("Idle limit", duration(idle * 1000)),
    wait !== undefined && fact("Queue limit", duration(wait * 1000)),
    slots !== undefined && slots !== 1 && fact("Slots", String(slots)),
    maxRuns !== undefined && maxRuns !== 1 && fact("Runs", `up to ${maxRuns}, if failures are transient`),
    runs && fact("Runs by reason", foreign(runs, { class: "mono" })),
  ];
}

/** @param {string} name @param {...import("../dom.js").Child} value */
const fact = (name, ...value) => [h("dt", null, name), h("dd", null, value)];
