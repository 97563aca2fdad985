/** Formats the run time of a command, as far as known. Pure. */

import { duration, elapsed, localTime } from "./format.js";

/** @typedef {import("./protocol.js").Command} Command */

/**
 * For lists: `12 s`; `12 s?` if it may no longer be running; `–` if not started.
 * @param {Command} command @param {number} now @param {number} asOf  time up to which the command is known
 */
export function took(command, now, asOf) {
  const { started, finished } = command.receipts;
  if (!started) return "–";
  if (finished) return duration(finished - started);
  const until = knownUntil(command, asOf);
  return `${elapsed(until - started)}${until < now ? "?" : ""}`;
}

/**
 * As a phrase, for a command that has not ended.
 * @param {Command} command @param {number} now @param {number} asOf
 */
export function runTimeText(command, now, asOf) {
  const { queued, started } = command.receipts;
  const until = knownUntil(command, asOf);
  const begin = started ?? queued;
  if (!begin) return "";
  if (until >= now) return `${started ? "running" : "waiting"} for ${elapsed(now - begin)}`;
  return `had ${started ? "run" : "waited"} for ${elapsed(until - begin)} at ${localTime(until, now)}`;
}

/** @param {Command} command @param {number} asOf */
function knownUntil({ state, agentAwaySince }, asOf) {
  return state === "assigned" && agentAwaySince ? Math.min(asOf, agentAwaySince) : asOf;
}
