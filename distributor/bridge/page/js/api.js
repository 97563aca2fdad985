/**
 * Reads pages of history from `/api`.
 *
 * @typedef {import("./protocol.js").Command} Command
 * @typedef {import("./protocol.js").Result} Result
 */

/** What the bridge said when it refused. */
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
   * @param {Record<string, string | number | undefined>} query  parameters of `/api/commands`
   * @param {AbortSignal} signal
   * @returns {Promise<{commands: Command[], nextPageToken: string}>}
   */
  commands(query, signal) {
    const search = new URLSearchParams();
    for (const [name, value] of Object.entries(query)) if (value) search.set(name, String(value));
    return this.read(`/api/commands?${search}`, signal);
  }

  /**
   * One command with its params, limits and result.
   * @param {string} commandId
   * @param {AbortSignal} signal
   * @returns {Promise<import("./send_form.js").Sent & {result: Result | null}>}
   */
  command(commandId, signal) {
    return this.read(`/api/commands/${encodeURIComponent(commandId)}`, signal);
  }

  /**
   * All agents, by id.
   * @param {AbortSignal} signal
   * @returns {Promise<{agents: import("./protocol.js").Agent[]}>}
   */
  agents(signal) {
    return this.read("/api/agents", signal);
  }

  /** @param {string} path @param {AbortSignal} signal */
  async read(path, signal) {
    const token = await this.tokens.get();
    const response = await this.fetched(path, { headers: { Authorization: `Bearer ${token}` }, signal });
    const body = await response.json().catch(() => ({}));
    if (response.ok) return body;
    const { code = "UNKNOWN", message = `the bridge answered ${response.status}` } = body.error ?? {};
    throw new ApiError(response.status, code, message);
  }

  /** @param {string} path @param {RequestInit} options */
  async fetched(path, options) {
    try {
      return await fetch(path, options);
    } catch (error) {
      if (options.signal?.aborted) throw error;
      throw new ApiError(0, "UNAVAILABLE", "the bridge cannot be reached");
    }
  }
}
