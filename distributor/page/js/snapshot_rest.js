/**
 * Reads what a truncated snapshot omits: more agents, older queued commands, and the commands of the last minutes.
 * Reads nothing if the snapshot was complete.
 *
 * @typedef {import("./protocol.js").Message} Message
 */

import { WINDOW_MS } from "./activity.js";
import { ApiError } from "./api.js";
import { isAgentListTruncated, isCommandListTruncated } from "./store.js";

/** Largest page of `/api`. */
const QUEUED = 200;
/** Pages of recent commands to read, to count the ended ones. */
const RECENT_PAGES = 5;

export class SnapshotRest {
  /** @param {import("./api.js").Api} api @param {(message: Message) => void} receive  gets a `snapshot:rest` */
  constructor(api, receive) {
    this.api = api;
    this.receive = receive;
    this.reading = new AbortController();
  }

  /** @param {Message} snapshot  `connected` or `resync` @param {number} now  by the store's clock */
  async read({ agents, commands }, now) {
    this.reading.abort();
    const { signal } = (this.reading = new AbortController());
    try {
      const [rest, queued, recent] = await Promise.all([
        isAgentListTruncated(agents) ? this.api.agents(signal) : null,
        isCommandListTruncated(commands) ? this.api.commands({ status: "queued", pageSize: QUEUED }, signal) : null,
        isCommandListTruncated(commands) ? this.recent(Math.round(now - WINDOW_MS), signal) : null,
      ]);
      if (!rest && !queued) return;
      this.receive({
        type: "snapshot:rest",
        version: "",
        ...(rest && { agents: rest.agents }),
        ...(queued && { commands: queued.commands, moreQueued: Boolean(queued.nextPageToken), recent }),
      });
    } catch (error) {
      // The views say that counts are incomplete; the next snapshot tries again.
      if (!signal.aborted && !(error instanceof ApiError)) throw error;
    }
  }

  /**
   * The commands queued since a time, newest first, up to `RECENT_PAGES` pages.
   * @param {number} since @param {AbortSignal} signal
   */
  async recent(since, signal) {
    /** @type {import("./protocol.js").Command[]} */
    const found = [];
    let pageToken = "";
    for (let page = 0; page < RECENT_PAGES && (pageToken || !page); page += 1) {
      const { commands, nextPageToken } = await this.api.commands({ since, pageSize: QUEUED, pageToken }, signal);
      found.push(...commands);
      pageToken = nextPageToken;
    }
    return found;
  }
}
