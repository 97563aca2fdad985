/**
 * Keeps the newest state of each command that the page received, whatever its source. The only place that decides which
 * of two states of a command or agent is newer. Pure.
 *
 * @typedef {import("./protocol.js").Agent} Agent
 * @typedef {import("./protocol.js").Command} Command
 */

/** More than the page shows at a time. */
export const MAX_NEWEST = 2_000;

/**
 * The newer of two states of a command. A message of the same revision may tell that the agent has gone or returned.
 * @param {Command | undefined} before @param {Command} state
 */
export const newerCommand = (before, state) => (before && before.revision > state.revision ? before : state);

/**
 * The newer of two states of an agent: its epoch counts before its revision.
 * @param {Agent | undefined} before @param {Agent} state
 */
export const newerAgent = (before, state) => (before && isOlder(state, before) ? before : state);

/** @param {Agent} one @param {Agent} other */
const isOlder = (one, other) => (one.epoch === other.epoch ? one.revision < other.revision : one.epoch < other.epoch);

/**
 * Records a state and returns the newest of its command. Forgets the command that was not heard of for longest.
 * @param {Map<string, Command>} newest @param {Command} state
 */
export function keepNewest(newest, state) {
  const { commandId } = state;
  const kept = newerCommand(newest.get(commandId), state);
  newest.delete(commandId);
  newest.set(commandId, kept);
  if (newest.size > MAX_NEWEST) newest.delete(/** @type {string} */ (newest.keys().next().value));
  return kept;
}
