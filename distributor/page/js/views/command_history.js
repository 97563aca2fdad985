/** What is known of a command beside its timeline: attempts that ended, how far a cancel has got, and doubts. */

import { h } from "../dom.js";
import { foreign } from "../foreign_text.js";
import { dateAndTime, duration, localTime, plural } from "../format.js";
import { hasEnded } from "../protocol.js";
import { panel } from "./parts.js";

/** @typedef {import("../app.js").App} App */
/** @typedef {import("../protocol.js").Attempt} Attempt */
/** @typedef {import("../protocol.js").Command} Command */

/** What a cancel has led to. @type {Record<string, string>} */
const CANCEL_TEXTS = {
  requested: "not sent to the agent yet",
  delivered: "sent to the agent",
  stopping: "the agent is stopping it",
  could_not_stop: "the agent could not stop it",
  unconfirmed: "whether it runs is not known",
  stopped: "nothing of it runs",
};

/** @param {string | undefined} stage */
export const cancelText = (stage) => (stage && CANCEL_TEXTS[stage] ? `; ${CANCEL_TEXTS[stage]}` : "");

/** Notice that a command may run although it is to end. @param {Command} command */
export function doubtNotice(command) {
  const text = hasEnded(command) ? "" : doubt(command);
  return text && h("p", { class: "notice", role: "status", key: "doubt" }, foreign(text));
}

/** @param {Command} command */
function doubt({ cancelStage, cancelRequested, reason }) {
  if (cancelStage === "could_not_stop")
    return `The agent could not stop this command: ${reason.message}. It ends once nothing of it runs.`;
  if (reason.code !== "unconfirmed") return "";
  return (
    "Whether this command runs is not known: it was sent, and its agent has not answered. " +
    (cancelRequested ? "The agent is told to stop it once it is back" : "It goes on once the agent is back") +
    "; otherwise it ends as agent_lost."
  );
}

/** The attempts that have ended without ending the command. @param {App} app */
export function attempts(app) {
  const ended = app.detail?.sent?.attempts ?? [];
  if (!ended.length) return null;
  return panel(
    "Earlier attempts",
    h("span", { class: "quiet end" }, plural(ended.length, "attempt")),
    h(
      "ol",
      { class: "attempts panel-body" },
      ended.map((one) => attempt(one, app.now)),
    ),
  );
}

/** @param {Attempt} one @param {number} now */
function attempt({ number, agentId, receipts, reason, started }, now) {
  const { assigned, finished } = receipts;
  return h(
    "li",
    { key: String(number) },
    h("span", null, `Attempt ${number}: `, h("strong", null, started ? "started" : "not started")),
    h("span", { class: "quiet" }, "on ", foreign(agentId)),
    assigned && h("time", { class: "quiet", title: dateAndTime(assigned) }, `assigned ${localTime(assigned, now)}`),
    finished &&
      h(
        "time",
        { class: "quiet", title: dateAndTime(finished) },
        assigned ? `ended after ${duration(finished - assigned)}` : `ended ${localTime(finished, now)}`,
      ),
    reason.code &&
      h(
        "span",
        { class: "why" },
        foreign(reason.code, { class: "mono" }),
        reason.message && [" ", foreign(reason.message)],
      ),
  );
}
