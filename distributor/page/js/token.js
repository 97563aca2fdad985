/**
 * The token that identifies the user. In `dev` and `demo` the bridge gives one to its own page; elsewhere the user
 * enters one. It is kept until the tab is closed.
 */

const KEY = "distributor-token";

export class Tokens {
  constructor() {
    /** @type {string | null} */
    this.token = sessionStorage.getItem(KEY);
  }

  /**
   * The token to use, or null if the user has to enter one.
   * @returns {Promise<string | null>}
   */
  async get() {
    return this.token ?? (await this.fromDevelopment());
  }

  /** @param {string} token */
  set(token) {
    this.token = token;
    sessionStorage.setItem(KEY, token);
  }

  /** It was refused. */
  forget() {
    this.token = null;
    sessionStorage.removeItem(KEY);
  }

  /** @returns {Promise<string | null>} */
  async fromDevelopment() {
    const response = await fetch("/dev/token", { headers: { "X-Distributor-Dev": "1" } });
    if (!response.ok) return null;
    this.token = (await response.json()).token;
    return this.token;
  }
}
