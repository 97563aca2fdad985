/** Formats values for display. Pure: the current time is an argument. */

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/**
 * A duration with about three significant digits.
 * @param {number | null | undefined} ms
 */
export function duration(ms) {
  if (ms === null || ms === undefined || Number.isNaN(ms)) return "–";
  if (ms < 0) return "0 ms";
  if (ms < SECOND) return `${ms < 10 && !Number.isInteger(ms) ? ms.toFixed(1) : Math.round(ms)} ms`;
  if (ms < 10 * SECOND) return `${(ms / SECOND).toFixed(2)} s`;
  if (ms < MINUTE) return `${(ms / SECOND).toFixed(1)} s`;
  if (ms < HOUR) return twoUnits(ms, MINUTE, "min", SECOND, "s");
  if (ms < DAY) return twoUnits(ms, HOUR, "h", MINUTE, "min");
  return twoUnits(ms, DAY, "d", HOUR, "h");
}

/** @param {number} ms @param {number} big @param {string} bigName @param {number} small @param {string} smallName */
function twoUnits(ms, big, bigName, small, smallName) {
  const count = Math.floor(ms / big);
  const rest = Math.floor((ms % big) / small);
  return rest ? `${count} ${bigName} ${rest} ${smallName}` : `${count} ${bigName}`;
}

/**
 * A running duration in whole seconds, so that it does not flicker.
 * @param {number} ms
 */
export function elapsed(ms) {
  const whole = Math.max(0, Math.floor(ms / SECOND)) * SECOND;
  return whole < MINUTE ? `${whole / SECOND} s` : duration(whole);
}

/**
 * The age of a time, in one unit.
 * @param {number | null | undefined} time ms since the epoch
 * @param {number} now ms since the epoch
 */
export function ago(time, now) {
  if (!time) return "never";
  const ms = now - time;
  if (ms < 2 * SECOND) return "just now";
  if (ms < MINUTE) return `${Math.floor(ms / SECOND)} s ago`;
  if (ms < HOUR) return `${Math.floor(ms / MINUTE)} min ago`;
  if (ms < DAY) return `${Math.floor(ms / HOUR)} h ago`;
  return `${Math.floor(ms / DAY)} d ago`;
}

/**
 * A local time to the second with its zone, and its date if not today: `12:00:01 UTC+1`.
 * @param {number} time ms since the epoch
 * @param {number} now ms since the epoch
 */
export function localTime(time, now) {
  return `${onDay(time, now)}${seconds(time)} ${zone(time)}`;
}

/**
 * The same to the millisecond.
 * @param {number} time ms since the epoch
 * @param {number} now ms since the epoch
 */
export function localTimeMs(time, now) {
  return `${onDay(time, now)}${seconds(time)}.${String(time % 1000).padStart(3, "0")} ${zone(time)}`;
}

/** With date and zone. @param {number} time ms since the epoch */
export function dateAndTime(time) {
  return `${date(time)} ${seconds(time)}.${String(time % 1000).padStart(3, "0")} ${zone(time)}`;
}

/** The local zone as its UTC offset at a given time: `UTC+5:30`. @param {number} time ms */
export function zone(time) {
  const minutes = -new Date(time).getTimezoneOffset();
  const [hours, rest] = [Math.floor(Math.abs(minutes) / 60), Math.abs(minutes) % 60];
  return minutes ? `UTC${minutes < 0 ? "−" : "+"}${hours}${rest ? `:${two(rest)}` : ""}` : "UTC";
}

/** @param {number} time @param {number} now */
const onDay = (time, now) => (date(time) === date(now) ? "" : `${date(time)} `);

/** @param {number} time */
function date(time) {
  const at = new Date(time);
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
}

/** @param {number} time */
function seconds(time) {
  const at = new Date(time);
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

/** Value of a `datetime-local` input, to the minute. @param {number} time ms since the epoch, or NaN */
export function inputTime(time) {
  return time ? `${date(time)}T${seconds(time).slice(0, 5)}` : "";
}

/** @param {number} number */
const two = (number) => String(number).padStart(2, "0");

/** @param {number | null | undefined} count */
export function bytes(count) {
  if (count === null || count === undefined) return "–";
  if (count < 1024) return `${count} B`;
  if (count < 1024 * 1024) return `${(count / 1024).toFixed(1)} KiB`;
  return `${(count / 1024 / 1024).toFixed(1)} MiB`;
}

/**
 * A number and its noun.
 * @param {number} count @param {string} one @param {string} [many]
 */
export function plural(count, one, many = `${one}s`) {
  return `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
}

/**
 * The end of an id, which differs even between ids created at about the same time.
 * @param {string} id
 */
export function shortId(id) {
  return id.length > 12 ? `…${id.slice(-8)}` : id;
}

/**
 * Splits params into shell-quoted words of `argv`, if present, and the other params. Joined by spaces, a shell splits
 * the words into the same arguments.
 * @param {Record<string, any>} params
 * @returns {{words: string[] | null, rest: Record<string, any>}}
 */
export function splitParams(params) {
  const { argv, ...rest } = params;
  const isLine = Array.isArray(argv) && argv.every((word) => typeof word === "string");
  return isLine ? { words: argv.map(quoted), rest } : { words: null, rest: params };
}

/** @param {string} word */
const quoted = (word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);
