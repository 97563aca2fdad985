/**
 * Counts and latencies of recently ended commands in 5-second buckets, for charts and tiles. Pure.
 *
 * @typedef {{completed: number, other: number, waits: number[], totals: number[]}} Bucket
 * @typedef {Map<number, Bucket>} Activity  keyed by bucket start time, in ms
 */

export const BUCKET_MS = 5_000;
export const WINDOW_MS = 5 * 60_000;
/** Bounds memory; enough for percentiles. */
const SAMPLES = 500;

/** @typedef {import("./protocol.js").Command} Command */

/**
 * Adds ended commands and drops buckets older than the window. Copies only buckets that change.
 * @param {Activity} activity
 * @param {Command[]} ended
 * @param {number} now  ms, by the store's clock, which also sets the receipts
 * @returns {Activity}
 */
export function addEnded(activity, ended, now) {
  const next = new Map([...activity].filter(([begin]) => begin >= now - WINDOW_MS - BUCKET_MS));
  const copied = new Set();
  for (const command of ended) {
    const { finished } = command.receipts;
    if (!finished || finished < now - WINDOW_MS) continue;
    const begin = finished - (finished % BUCKET_MS);
    if (!copied.has(begin)) next.set(begin, copyOf(next.get(begin)));
    copied.add(begin);
    count(/** @type {Bucket} */ (next.get(begin)), command);
  }
  return next;
}

/** @param {Bucket | undefined} bucket @returns {Bucket} */
function copyOf(bucket) {
  if (!bucket) return { completed: 0, other: 0, waits: [], totals: [] };
  return { ...bucket, waits: [...bucket.waits], totals: [...bucket.totals] };
}

/** @param {Bucket} bucket @param {Command} command */
function count(bucket, command) {
  const { queued, started, finished } = command.receipts;
  if (command.status === "completed") bucket.completed += 1;
  else bucket.other += 1;
  if (queued && started) sample(bucket.waits, started - queued, bucket);
  if (queued && finished) sample(bucket.totals, finished - queued, bucket);
}

/**
 * Reservoir sampling: keeps a uniform sample of at most `SAMPLES` values.
 * @param {number[]} samples
 * @param {number} value
 * @param {Bucket} bucket
 */
function sample(samples, value, bucket) {
  if (samples.length < SAMPLES) samples.push(value);
  else {
    const place = Math.floor(Math.random() * (bucket.completed + bucket.other));
    if (place < SAMPLES) samples[place] = value;
  }
}

/**
 * Chart series with one value per bucket, oldest first; null if unknown.
 * @param {Activity} activity
 * @param {number} now
 * @param {number} since  start of the known period, in ms
 */
export function series(activity, now, since) {
  const last = now - (now % BUCKET_MS);
  const begins = Array.from({ length: WINDOW_MS / BUCKET_MS + 1 }, (_, at) => last - WINDOW_MS + at * BUCKET_MS);
  const buckets = begins.map((begin) => activity.get(begin));
  return {
    times: begins.map((begin) => begin / 1000),
    completed: buckets.map((bucket, at) => perSecond(bucket?.completed, begins[at] >= since - BUCKET_MS)),
    other: buckets.map((bucket, at) => perSecond(bucket?.other, begins[at] >= since - BUCKET_MS)),
    waitMedian: buckets.map((bucket) => percentile(bucket?.waits ?? [], 0.5)),
    totalMedian: buckets.map((bucket) => percentile(bucket?.totals ?? [], 0.5)),
    totalHigh: buckets.map((bucket) => percentile(bucket?.totals ?? [], 0.95)),
  };
}

/** @param {number | undefined} count @param {boolean} isKnown */
function perSecond(count, isKnown) {
  if (count === undefined) return isKnown ? 0 : null;
  return (count * 1000) / BUCKET_MS;
}

/**
 * Totals and percentiles over the whole window.
 * @param {Activity} activity
 * @param {number} now
 */
export function summary(activity, now) {
  const buckets = [...activity].filter(([begin]) => begin > now - WINDOW_MS).map(([, bucket]) => bucket);
  return {
    completed: buckets.reduce((sum, bucket) => sum + bucket.completed, 0),
    other: buckets.reduce((sum, bucket) => sum + bucket.other, 0),
    wait: percentile(
      buckets.flatMap((bucket) => bucket.waits),
      0.5,
    ),
    total: percentile(
      buckets.flatMap((bucket) => bucket.totals),
      0.5,
    ),
    totalHigh: percentile(
      buckets.flatMap((bucket) => bucket.totals),
      0.95,
    ),
  };
}

/** @param {number[]} values @param {number} share @returns {number | null} */
export function percentile(values, share) {
  if (!values.length) return null;
  const sorted = [...values].sort((one, other) => one - other);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}
