/**
 * Reads pages of history from `/api`.
 *
 * @typedef {import("./protocol.js").Command} Command
 * @typedef {import("./protocol.js").Result} Result
 */

import { parseDocument } from "./exact_json.js";
import { agentOf, commandOf, resultOf, statusesOf } from "./protocol.js";

/** A refusal by the bridge. */
export class ApiError extends Error {
  /** @param {number} status @param {string} code @param {string} message */
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export class Api {
  /** @param {import("./token.js").Tokens} tokens */
  constructor(tokens) {
    this.tokens = tokens;
  }

  /**
   * One page of commands, newest first.
   * @param {Record<string, string | number | undefined>} query  parameters of `/api/commands`; `status` a short word
   * @param {AbortSignal} signal
   * @returns {Promise<{commands: Command[], nextPageToken: string}>}
   */
  async commands({ status, ...query }, signal) {
    const search = new URLSearchParams();
    for (const [name, value] of Object.entries(query)) if (value) search.set(name, String(value));
    // A word that means nothing is for the bridge to refuse.
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
    const { params, timeLimitSeconds, queueTtlSeconds, offline } = command;
    return {
      command: commandOf(command),
      params,
      ...(params && { timeLimitSeconds, queueTtlSeconds, offline }),
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

  /** @param {string} path @param {AbortSignal} signal */
  async read(path, signal) {
    const token = await this.tokens.get();
    const options = { headers: { Authorization: `Bearer ${token}` }, signal };
    const response = await reached(() => fetch(path, options), signal);
    if (response.ok) return reached(async () => parseDocument(await response.text()), signal);
    // A proxy may refuse with a body that is not JSON.
    const body = await response.json().catch(() => ({}));
    const { code = "UNKNOWN", message = `the bridge answered ${response.status}` } = body.error ?? {};
    throw new ApiError(response.status, code, message);
  }
}

/**
 * The outcome of one step of a call. The connection may break at any point before the whole body has arrived.
 * @template T @param {() => Promise<T>} step @param {AbortSignal} signal
 * @returns {Promise<T>}
 */
async function reached(step, signal) {
  try {
    return await step();
  } catch (error) {
    if (signal.aborted) throw error;
    throw new ApiError(0, "UNAVAILABLE", "the bridge cannot be reached");
  }
}
