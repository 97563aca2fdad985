/**
 * The user's session. The bridge keeps the token in a cookie that no script can read, for all tabs; the page knows only
 * who is signed in and until when. In `dev` and `demo` the bridge signs its page in by itself.
 *
 * @typedef {{userId: string}} SessionChange  the user who is signed in now; empty for nobody
 */

const PATH = "/session";
const CHANNEL = "distributor-session";
/** How long before the end of a session the page says so. */
export const WARNING_MS = 10 * 60_000;

export class Session {
  /** @param {(change: SessionChange) => void} onChange  another tab has signed in or out */
  constructor(onChange) {
    /** Set when the user has signed out, so that `dev` does not sign in again at once. */
    this.left = false;
    /** Whether somebody is signed in, as last asked. @type {Promise<boolean> | null} */
    this.asked = null;
    /** Why the last session has ended; empty if there was none. */
    this.problem = "";
    this.channel = new BroadcastChannel(CHANNEL);
    this.channel.onmessage = (event) => {
      this.left = !event.data.userId;
      this.asked = Promise.resolve(!this.left);
      onChange(event.data);
    };
  }

  /** Whether somebody is signed in, as far as the page knows. @returns {Promise<boolean>} */
  ready() {
    return this.asked ?? this.exists();
  }

  /**
   * Whether somebody is signed in. Asks the bridge, and in `dev` has it sign the page in.
   * @returns {Promise<boolean>}
   */
  exists() {
    const asked = this.ask();
    this.asked = asked;
    asked.catch(() => this.asked === asked && (this.asked = null));
    return asked;
  }

  async ask() {
    const response = await fetch(PATH, { headers: { "X-Distributor-Dev": "1" } });
    if (!response.ok) throw new Error(`the bridge answered ${response.status}`);
    const { userId, signsIn, problem } = await response.json();
    this.problem = problem ?? "";
    return Boolean(userId) || (signsIn && !this.left && (await post({})).ok);
  }

  /**
   * Signs in, in all tabs.
   * @param {string} token
   * @returns {Promise<SessionChange | {problem: string}>}
   */
  async signIn(token) {
    const response = await post({ token }).catch(() => null);
    if (!response) return { problem: "the bridge is unreachable" };
    const document = await response.json().catch(() => ({}));
    if (!response.ok) return { problem: document.error?.message ?? `the bridge answered ${response.status}` };
    this.left = false;
    this.asked = Promise.resolve(true);
    const change = { userId: document.userId };
    this.channel.postMessage(change);
    return change;
  }

  /** Signs out, in all tabs. @returns {Promise<boolean>} whether the bridge has removed the cookie */
  async signOut() {
    const response = await fetch(PATH, { method: "DELETE" }).catch(() => null);
    if (!response?.ok) return false;
    this.left = true;
    this.asked = Promise.resolve(false);
    this.channel.postMessage({ userId: "" });
    return true;
  }
}

/** @param {Record<string, string>} document */
const post = (document) =>
  fetch(PATH, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Distributor-Dev": "1" },
    body: JSON.stringify(document),
  });

/**
 * What to say of the end of a session, or "" while it is far away.
 * @param {number} expires  in ms; 0 if not known @param {number} now  in ms
 */
export function expiryWarning(expires, now) {
  const remaining = expires - now;
  if (!expires || remaining > WARNING_MS) return "";
  const minutes = Math.ceil(remaining / 60_000);
  if (remaining <= 0) return "Your session has ended.";
  return `Your session ends in ${minutes} ${minutes === 1 ? "minute" : "minutes"}.`;
}
