/**
 * WebSocket to the bridge: connects, detects dead connections, reconnects and resumes.
 *
 * @typedef {"connecting" | "connected" | "waiting" | "refused"} Phase
 * @typedef {object} ConnectionState
 * @property {Phase} phase
 * @property {number} attempt  consecutive failures
 * @property {number} retryAt  time of the next attempt while waiting, in ms
 * @property {number} heardAt  time of the last message, in ms; 0 before the first
 * @property {string} problem  why it is not connected, for display
 *
 * @typedef {object} ConnectionContext
 * @property {import("./session.js").Session} session
 * @property {() => string} position  resume position
 * @property {() => {commandId: string, offset: number}[]} outputs  output subscriptions and their offsets
 * @property {(message: import("./protocol.js").Message) => void} onMessage
 * @property {(state: ConnectionState) => void} onState
 */

import { backoff } from "./backoff.js";
import { parseDocument } from "./exact_json.js";
import { message, received } from "./protocol.js";

const PING_MS = 10_000;
/** Two missed pongs. */
const SILENCE_MS = 25_000;
const CONNECT_MS = 10_000;

const POLICY_VIOLATION = 1008;
const REASONS = new Map([
  [1001, "the bridge shut down"],
  [1006, "the bridge is unreachable"],
  [1009, "a message was too large"],
  [1012, "the bridge is restarting"],
  [1013, "the bridge is at its connection limit"],
]);

export class Connection {
  /** @param {ConnectionContext} context */
  constructor(context) {
    this.context = context;
    /** @type {WebSocket | null} */
    this.socket = null;
    /** @type {ConnectionState} */
    this.state = { phase: "connecting", attempt: 0, retryAt: 0, heardAt: 0, problem: "" };
    this.timer = 0;
    this.refusals = 0;
  }

  start() {
    setInterval(() => this.checkLiveness(), PING_MS);
    addEventListener("online", () => this.retryNow());
    document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && this.retryNow());
    this.connect();
  }

  /** Reconnects now if waiting for the next attempt. */
  retryNow() {
    if (this.state.phase === "waiting") this.connect();
  }

  /** Reconnects with the current session, without a gap. */
  restart() {
    this.refusals = 0;
    this.connect();
  }

  /** Disconnects, as the user has signed out. */
  leave() {
    this.opening = {};
    this.drop();
    this.change({ phase: "refused", attempt: 0, problem: "" });
  }

  /**
   * @param {string} type
   * @param {Record<string, any>} fields
   * @returns {boolean} whether it was sent
   */
  send(type, fields = {}) {
    if (this.state.phase !== "connected" || this.socket?.readyState !== WebSocket.OPEN) return false;
    this.socket.send(message(type, fields));
    return true;
  }

  async connect() {
    clearTimeout(this.timer);
    this.drop();
    this.change({ phase: "connecting" });
    const opening = (this.opening = {});
    const signedIn = await this.context.session.exists().catch(() => undefined);
    if (this.opening !== opening) return;
    if (signedIn === undefined) this.failed(1006, "");
    else if (signedIn) this.open();
    else this.change({ phase: "refused", problem: this.context.session.problem });
  }

  open() {
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`);
    this.socket = socket;
    this.timer = setTimeout(() => this.failed(1006, ""), CONNECT_MS);
    socket.onopen = () => socket.send(message("dashboard:connect", this.connectFields()));
    socket.onmessage = (event) => this.received(received(parseDocument(event.data)));
    socket.onclose = (event) => this.failed(event.code, event.reason);
  }

  connectFields() {
    const position = this.context.position();
    return {
      clientInfo: { userAgent: navigator.userAgent, timezone: Intl.DateTimeFormat().resolvedOptions().timeZone },
      subscribe: { agents: ["*"], commands: ["*"], output: this.context.outputs() },
      ...(position && { resume: position }),
    };
  }

  /** @param {import("./protocol.js").Message} message */
  received(message) {
    this.state.heardAt = Date.now();
    if (message.type === "connected") {
      clearTimeout(this.timer);
      this.refusals = 0;
      this.change({ phase: "connected", attempt: 0, problem: "" });
    }
    this.context.onMessage(message);
  }

  /** @param {number} code @param {string} reason */
  failed(code, reason) {
    this.drop();
    const problem = reason || REASONS.get(code) || `the connection was lost (${code})`;
    if (code === POLICY_VIOLATION) {
      this.refusals += 1;
      // The session may just have ended: try once whether there is another by now.
      if (this.refusals > 1) return this.change({ phase: "refused", problem });
    }
    const attempt = this.state.attempt + 1;
    const wait = backoff(attempt);
    this.change({ phase: "waiting", attempt, retryAt: Date.now() + wait, problem });
    this.timer = setTimeout(() => this.connect(), wait);
  }

  drop() {
    clearTimeout(this.timer);
    const socket = this.socket;
    this.socket = null;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }

  checkLiveness() {
    if (this.state.phase !== "connected") return;
    if (Date.now() - this.state.heardAt > SILENCE_MS) this.failed(1006, "the bridge stopped responding");
    else this.send("ping");
  }

  /** @param {Partial<ConnectionState>} change */
  change(change) {
    this.state = { ...this.state, ...change };
    this.context.onState(this.state);
  }
}
