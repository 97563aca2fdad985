/**
 * One page of the audit trail, filtered by the server. Read when it is shown, not again: reading is recorded in it.
 *
 * @typedef {{sequence: number, time?: string, type?: string, code?: string, outcome?: string, actorKind?: string,
 *   actor?: string, onBehalfOf?: string, address?: string, agentId?: string, commandIds?: string[], count?: number,
 *   reason?: string, details?: Record<string, string>, tampered?: boolean}} AuditEntry
 * @typedef {{phase: "loading" | "ready" | "error", entries: AuditEntry[], nextPageToken: string,
 *   problem: string}} Audited
 */

import { ApiError } from "./api.js";

export class AuditList {
  /** @param {import("./api.js").Api} api @param {() => void} changed */
  constructor(api, changed) {
    this.api = api;
    this.changed = changed;
    /** @type {Audited} */
    this.listed = { phase: "loading", entries: [], nextPageToken: "", problem: "" };
    /** @type {AbortController | null} */
    this.reading = null;
  }

  /** Shows the page that the address names. @param {Record<string, string>} query */
  async show({ page, ...query }) {
    this.leave();
    const reading = (this.reading = new AbortController());
    this.listed = { ...this.listed, phase: "loading" };
    try {
      const { entries, nextPageToken } = await this.api.audit({ ...query, pageToken: page }, reading.signal);
      this.listed = { phase: "ready", entries, nextPageToken, problem: "" };
    } catch (error) {
      if (reading.signal.aborted) return;
      const problem = error instanceof ApiError ? error.message : String(error);
      this.listed = { phase: "error", entries: [], nextPageToken: "", problem };
    }
    this.changed();
  }

  /** Stops reading when the view closes. */
  leave() {
    this.reading?.abort();
  }
}
