/**
 * The token that says who we are. In `dev` and `demo` the bridge gives one to its own page; elsewhere the user is
 * asked. It lives as long as the tab.
 */

const KEY = "distributor-token";

export class Tokens {
  constructor() {
    /** @type {string | null} */
    this.token = sessionStorage.getItem(KEY);
  }

  /**
   * The token to use, or null where the user has to be asked.
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
