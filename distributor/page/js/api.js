/**
 * Client of the read API at `/api`.
 *
 * @typedef {import("./protocol.js").Command} Command
 * @typedef {import("./protocol.js").Result} Result
 */

import { parseDocument } from "./exact_json.js";
import { agentOf, attemptOf, commandOf, ms, resultOf, statusesOf } from "./protocol.js";

/** An error response from the bridge, or no response (status 0). */
export class ApiError extends Error {
  /** @param {number} status @param {string} code @param {string} message */
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export class Api {
  /** @param {{ready: () => Promise<boolean>}} session */
  constructor(session) {
    this.session = session;
  }

  /**
   * One page of commands, newest first.
   * @param {Record<string, string | number | undefined>} query  of `/api/commands`; `status` may be a short status
   * @param {AbortSignal} signal
   * @returns {Promise<{commands: Command[], nextPageToken: string}>}
   */
  async commands({ status, ...query }, signal) {
    const search = new URLSearchParams();
    for (const [name, value] of Object.entries(query)) if (value) search.set(name, String(value));
    // Pass an unknown status on; the bridge rejects it.
    const statuses = status ? statusesOf(String(status)) : [];
    for (const exact of statuses.length || !status ? statuses : [String(status)]) search.append("status", exact);
    const { commands, nextPageToken } = await this.read(`/api/commands?${search}`, signal);
    return { commands: commands.map(commandOf), nextPageToken };
  }

  /**
   * One command with its params, limits and result.
   * @param {string} commandId
   * @param {AbortSignal} signal
   * @returns {Promise<import("./send_form.js").Sent & {result: Result | null}>}
   */
  async command(commandId, signal) {
    const { command, result } = await this.read(`/api/commands/${encodeURIComponent(commandId)}`, signal);
    return {
      command: commandOf(command),
      params: command.params,
      ...(command.params && requestOf(command)),
      result: result && resultOf(result),
    };
  }

  /**
   * All agents, by id.
   * @param {AbortSignal} signal
   * @returns {Promise<{agents: import("./protocol.js").Agent[]}>}
   */
  async agents(signal) {
    const { agents } = await this.read("/api/agents", signal);
    return { agents: agents.map(agentOf) };
  }

  /**
   * One page of the audit trail, newest first. For administrators.
   * @param {Record<string, string | undefined>} query  of `/api/audit`
   * @param {AbortSignal} signal
   * @returns {Promise<{entries: import("./audit_list.js").AuditEntry[], nextPageToken: string}>}
   */
  async audit(query, signal) {
    const search = new URLSearchParams();
    for (const [name, value] of Object.entries(query)) if (value) search.set(name, value);
    const { entries, nextPageToken } = await this.read(`/api/audit?${search}`, signal);
    return { entries, nextPageToken };
  }

  /** @param {string} path @param {AbortSignal} signal */
  async read(path, signal) {
    // Without a session the bridge would refuse, and the browser would complain.
    if (!(await orUnavailable(() => this.session.ready(), signal)))
      throw new ApiError(401, "UNAUTHENTICATED", "you are signed out");
    const response = await orUnavailable(() => fetch(path, { signal }), signal);
    if (response.ok) return orUnavailable(async () => parseDocument(await response.text()), signal);
    // A proxy's error response may not be JSON.
    const body = await response.json().catch(() => ({}));
    const { code = "UNKNOWN", message = `the bridge answered ${response.status}` } = body.error ?? {};
    throw new ApiError(response.status, code, message);
  }
}

/** What only the server knows of a command. @param {Record<string, any>} document */
const requestOf = (document) => ({
  timeLimitSeconds: document.timeLimitSeconds,
  idleLimitSeconds: document.idleLimitSeconds ?? undefined,
  queueTtlSeconds: document.queueTtlSeconds,
  offline: document.offline,
  slots: document.slots,
  maxRuns: document.maxRuns,
  maxRunsByReason: document.maxRunsByReason,
  retryOf: document.retryOf ?? undefined,
  progress: ms(document.progressTime) || undefined,
  attempts: document.attempts.map(attemptOf),
  secretParams: document.secretParams,
  lateResult: document.lateResult ? resultOf(document.lateResult) : undefined,
});

/**
 * Awaits one step of a request and maps network errors to `UNAVAILABLE`: the connection may break until the body is
 * read.
 * @template T @param {() => Promise<T>} step @param {AbortSignal} signal
 * @returns {Promise<T>}
 */
async function orUnavailable(step, signal) {
  try {
    return await step();
  } catch (error) {
    if (signal.aborted) throw error;
    throw new ApiError(0, "UNAVAILABLE", "the bridge is unreachable");
  }
}
