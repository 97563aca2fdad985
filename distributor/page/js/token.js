/**
 * The user's token. In `dev` and `demo` the bridge issues one to its page; otherwise the user enters one. It is kept
 * until the tab closes.
 */

const KEY = "distributor-token";

export class Tokens {
  constructor() {
    /** @type {string | null} */
    this.token = sessionStorage.getItem(KEY);
  }

  /**
   * The current token, or null if the user must enter one.
   * @returns {Promise<string | null>}
   */
  async get() {
    return this.token ?? (await this.fetchDevToken());
  }

  /** @param {string} token */
  set(token) {
    this.token = token;
    sessionStorage.setItem(KEY, token);
  }

  /** Discards a rejected token. */
  forget() {
    this.token = null;
    sessionStorage.removeItem(KEY);
  }

  /** @returns {Promise<string | null>} */
  async fetchDevToken() {
    const response = await fetch("/dev/token", { headers: { "X-Distributor-Dev": "1" } });
    if (!response.ok) return null;
    this.token = (await response.json()).token;
    return this.token;
  }
}
