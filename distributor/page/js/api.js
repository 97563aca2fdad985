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
    const options = { headers: { Authorization: `Bearer ${token}` }, signal };
    const response = await reached(() => fetch(path, options), signal);
    if (response.ok) return reached(() => response.json(), signal);
    // Whoever stands between may refuse with something that is no JSON.
    const body = await response.json().catch(() => ({}));
    const { code = "UNKNOWN", message = `the bridge answered ${response.status}` } = body.error ?? {};
    throw new ApiError(response.status, code, message);
  }
}

/**
 * What comes of a step of a call, which may break off until all of the answer is there.
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
