/**
 * Reads what a snapshot leaves out: agents beyond its bound, queued commands older than its newest ones, and the
 * commands of the last minutes. What fits into a snapshot, as most systems do, costs nothing here.
 *
 * @typedef {import("./protocol.js").Message} Message
 */

import { WINDOW_MS } from "./activity.js";
import { ApiError } from "./api.js";
import { areAgentsCut, areCommandsCut } from "./store.js";

/** The most that `/api` gives at once. */
const QUEUED = 200;
/** Of as many commands of the last minutes, to count what ended. */
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
        areAgentsCut(agents) ? this.api.agents(signal) : null,
        areCommandsCut(commands) ? this.api.commands({ status: "queued", pageSize: QUEUED }, signal) : null,
        areCommandsCut(commands) ? this.recent(Math.round(now - WINDOW_MS), signal) : null,
      ]);
      if (!rest && !queued) return;
      this.receive({
        type: "snapshot:rest",
        version: "",
        ...(rest && { agents: rest.agents }),
        ...(queued && { commands: queued.commands, moreQueued: Boolean(queued.nextPageToken), recent }),
      });
    } catch (error) {
      // What is shown says that it is not all; the next snapshot is another chance.
      if (!signal.aborted && !(error instanceof ApiError)) throw error;
    }
  }

  /**
   * The commands queued since then, newest first, as many as there is patience for.
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
