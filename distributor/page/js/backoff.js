/** When to try again: exponential with full jitter, as AWS recommends and our agents do. */

const FIRST_MS = 500;
const MOST_MS = 15_000;
/** A wait of nothing would make a loop of connections that are accepted and closed. */
const LEAST_MS = 100;

/**
 * @param {number} attempt how many tries failed in a row, from 1
 * @param {() => number} [random] in [0, 1)
 * @returns {number} ms to wait
 */
export function backoff(attempt, random = Math.random) {
  const most = Math.min(MOST_MS, FIRST_MS * 2 ** Math.min(attempt - 1, 16));
  return LEAST_MS + Math.floor(random() * (most - LEAST_MS));
}
