/**
 * One page of commands, filtered by the server. Refreshes at most once a second while changes arrive; listed commands
 * update at once.
 *
 * @typedef {import("./protocol.js").Command} Command
 * @typedef {{phase: "loading" | "ready" | "error", rows: Command[], nextPageToken: string, problem: string}} Listed
 */

import { ApiError } from "./api.js";

export const PAGE_SIZE = 25;
const REFRESH_MS = 1_000;

export const TIMES = /** @type {const} */ ([
  ["", "any time"],
  ["15m", "last 15 minutes"],
  ["1h", "last hour"],
  ["24h", "last 24 hours"],
  ["7d", "last 7 days"],
]);
const TIME_MS = /** @type {Record<string, number>} */ ({ "15m": 900e3, "1h": 3600e3, "24h": 86400e3, "7d": 604800e3 });

export class CommandList {
  /**
   * @param {import("./api.js").Api} api
   * @param {() => void} changed
   * @param {() => number} now  ms, by the store's clock
   * @param {(commands: Command[]) => void} read  gets each page read
   */
  constructor(api, changed, now, read) {
    this.api = api;
    this.changed = changed;
    this.now = now;
    this.onRead = read;
    /** @type {Record<string, string>} */
    this.query = {};
    /** @type {Listed} */
    this.listed = { phase: "loading", rows: [], nextPageToken: "", problem: "" };
    /** Previous page token by page token, for the pages visited. @type {Map<string, string>} */
    this.before = new Map();
    /** @type {AbortController | null} */
    this.reading = null;
    this.seenChanges = -1;
    /** Start of the period shown, in ms; 0 for all. */
    this.since = 0;
    this.timer = 0;
  }

  /** Shows another page. @param {Record<string, string>} query  from the address */
  show(query) {
    if (query.page && query.page === this.listed.nextPageToken) this.before.set(query.page, this.query.page ?? "");
    this.query = query;
    this.listed = { ...this.listed, phase: "loading" };
    this.read();
  }

  /** Stops reading when the view closes. */
  leave() {
    clearTimeout(this.timer);
    this.timer = 0;
    this.reading?.abort();
  }

  /** Schedules a refresh after a change. @param {number} changes  change counter of the store */
  follow(changes) {
    if (changes === this.seenChanges || this.timer || this.query.page) return;
    this.timer = setTimeout(() => {
      this.timer = 0;
      this.seenChanges = changes;
      this.read();
    }, REFRESH_MS);
  }

  /** Token of the previous page, empty for the first; undefined if unknown. */
  previousPage() {
    return this.query.page ? this.before.get(this.query.page) : undefined;
  }

  /** The query of another page. A token is valid for the same period only. @param {string} page  a token, or empty */
  queryOf(page) {
    return { ...this.query, page, since: page && this.since ? String(this.since) : "" };
  }

  async read() {
    this.reading?.abort();
    const reading = (this.reading = new AbortController());
    try {
      const { commands, nextPageToken } = await this.api.commands(this.parameters(), reading.signal);
      if (reading === this.reading) this.listed = { phase: "ready", rows: commands, nextPageToken, problem: "" };
      this.onRead(commands);
    } catch (error) {
      if (reading.signal.aborted) return;
      if (!(error instanceof ApiError)) throw error;
      this.listed = { ...this.listed, phase: "error", problem: error.message };
    }
    this.changed();
  }

  parameters() {
    const { agent, type, status, within, page, since } = this.query;
    const until = Number(this.query.until) || 0;
    this.since = Number(since) || (TIME_MS[within] && Math.round((until || this.now()) - TIME_MS[within])) || 0;
    return {
      agent,
      type,
      status,
      since: this.since,
      until,
      pageSize: PAGE_SIZE,
      pageToken: page,
    };
  }
}
