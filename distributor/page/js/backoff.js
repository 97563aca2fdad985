/** Reconnect delays: exponential backoff with full jitter. */

const FIRST_MS = 500;
const MAX_MS = 15_000;
/** Avoids a tight loop if connections are accepted and closed at once. */
const MIN_MS = 100;

/**
 * @param {number} attempt number of consecutive failures, from 1
 * @param {() => number} [random] in [0, 1)
 * @returns {number} ms to wait
 */
export function backoff(attempt, random = Math.random) {
  const most = Math.min(MAX_MS, FIRST_MS * 2 ** Math.min(attempt - 1, 16));
  return MIN_MS + Math.floor(random() * (most - MIN_MS));
}
