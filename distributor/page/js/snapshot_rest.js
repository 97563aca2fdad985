/**
 * Reads what a snapshot leaves out: agents beyond its bound, and queued commands older than its newest ones. What fits
 * into a snapshot, as most systems do, costs nothing here.
 *
 * @typedef {import("./protocol.js").Message} Message
 */

import { ApiError } from "./api.js";
import { areAgentsCut, areCommandsCut } from "./store.js";

/** The most that `/api` gives at once. */
const QUEUED = 200;

export class SnapshotRest {
  /** @param {import("./api.js").Api} api @param {(message: Message) => void} receive  gets a `snapshot:rest` */
  constructor(api, receive) {
    this.api = api;
    this.receive = receive;
    this.reading = new AbortController();
  }

  /** @param {Message} snapshot  `connected` or `resync` */
  async read({ agents, commands }) {
    this.reading.abort();
    const { signal } = (this.reading = new AbortController());
    try {
      const [rest, queued] = await Promise.all([
        areAgentsCut(agents) ? this.api.agents(signal) : null,
        areCommandsCut(commands) ? this.api.commands({ status: "queued", pageSize: QUEUED }, signal) : null,
      ]);
      if (!rest && !queued) return;
      this.receive({
        type: "snapshot:rest",
        version: "",
        ...(rest && { agents: rest.agents }),
        ...(queued && { commands: queued.commands, moreQueued: Boolean(queued.nextPageToken) }),
      });
    } catch (error) {
      // What is shown says that it is not all; the next snapshot is another chance.
      if (!signal.aborted && !(error instanceof ApiError)) throw error;
    }
  }
}
