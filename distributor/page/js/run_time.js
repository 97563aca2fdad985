/** How long a command has run, as far as that is known. Pure. */

import { duration, elapsed, moment } from "./format.js";

/** @typedef {import("./protocol.js").Command} Command */

/**
 * For a list: `12 s`; `12 s?` if it is not known whether it still runs; `–` if it has not started.
 * @param {Command} command @param {number} now @param {number} asOf  the time for which the command is known
 */
export function took(command, now, asOf) {
  const { started, finished } = command.receipts;
  if (!started) return "–";
  if (finished) return duration(finished - started);
  const until = knownUntil(command, asOf);
  return `${elapsed(until - started)}${until < now ? "?" : ""}`;
}

/**
 * In words, for one that has not ended.
 * @param {Command} command @param {number} now @param {number} asOf
 */
export function howLong(command, now, asOf) {
  const { queued, started } = command.receipts;
  const until = knownUntil(command, asOf);
  const begin = started ?? queued;
  if (!begin) return "";
  if (until >= now) return `${started ? "running" : "waiting"} for ${elapsed(now - begin)}`;
  return `had ${started ? "run" : "waited"} for ${elapsed(until - begin)} at ${moment(until, now)}`;
}

/** @param {Command} command @param {number} asOf */
function knownUntil({ state, agentAwaySince }, asOf) {
  return state === "assigned" && agentAwaySince ? Math.min(asOf, agentAwaySince) : asOf;
}
