/**
 * The WebSocket to the bridge: connects, detects a dead connection, reconnects by itself, and resumes where it was.
 *
 * @typedef {"connecting" | "connected" | "waiting" | "refused"} Phase
 * @typedef {object} ConnectionState
 * @property {Phase} phase
 * @property {number} attempt  tries that failed in a row
 * @property {number} retryAt  when the next try is, while waiting
 * @property {number} heardAt  when something last arrived; 0 before that
 * @property {string} problem  why it is not connected, for people
 *
 * @typedef {object} Surroundings
 * @property {import("./token.js").Tokens} tokens
 * @property {() => string} position  where to resume
 * @property {() => {commandId: string, offset: number}[]} outputs  what output is wanted, from where
 * @property {(message: import("./protocol.js").Message) => void} onMessage
 * @property {(state: ConnectionState) => void} onState
 */

import { backoff } from "./backoff.js";
import { parseDocument } from "./exact_json.js";
import { message, received } from "./protocol.js";

const PING_MS = 10_000;
/** Two pings unanswered. */
const SILENCE_MS = 25_000;
const CONNECT_MS = 10_000;

const POLICY_VIOLATION = 1008;
const REASONS = new Map([
  [1001, "the bridge went away"],
  [1006, "the bridge cannot be reached"],
  [1009, "a message was too large"],
  [1012, "the bridge restarts"],
  [1013, "the bridge has no room for us now"],
]);

export class Connection {
  /** @param {Surroundings} surroundings */
  constructor(surroundings) {
    this.surroundings = surroundings;
    /** @type {WebSocket | null} */
    this.socket = null;
    /** @type {ConnectionState} */
    this.state = { phase: "connecting", attempt: 0, retryAt: 0, heardAt: 0, problem: "" };
    this.timer = 0;
    this.refusals = 0;
  }

  start() {
    setInterval(() => this.beat(), PING_MS);
    addEventListener("online", () => this.hurry());
    document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && this.hurry());
    this.connect();
  }

  /** Tries now, if it waits for the next try. */
  hurry() {
    if (this.state.phase === "waiting") this.connect();
  }

  /** Starts over with the current token. */
  restart() {
    this.refusals = 0;
    this.connect();
  }

  /**
   * @param {string} type
   * @param {Record<string, any>} fields
   * @returns {boolean} whether it went out
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
    const token = await this.surroundings.tokens.get().catch(() => undefined);
    if (this.opening !== opening) return;
    if (token === undefined) this.failed(1006, "");
    else if (token === null) this.change({ phase: "refused", problem: this.state.problem || "a token is needed" });
    else this.open(token);
  }

  /** @param {string} token */
  open(token) {
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`);
    this.socket = socket;
    this.timer = setTimeout(() => this.failed(1006, ""), CONNECT_MS);
    socket.onopen = () => socket.send(message("dashboard:connect", this.greeting(token)));
    socket.onmessage = (event) => this.received(received(parseDocument(event.data)));
    socket.onclose = (event) => this.failed(event.code, event.reason);
  }

  /** @param {string} token */
  greeting(token) {
    const position = this.surroundings.position();
    return {
      token,
      clientInfo: { userAgent: navigator.userAgent, timezone: Intl.DateTimeFormat().resolvedOptions().timeZone },
      subscribe: { agents: ["*"], commands: ["*"], output: this.surroundings.outputs() },
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
    this.surroundings.onMessage(message);
  }

  /** @param {number} code @param {string} reason */
  failed(code, reason) {
    this.drop();
    const problem = reason || REASONS.get(code) || `the connection broke (${code})`;
    if (code === POLICY_VIOLATION) {
      this.surroundings.tokens.forget();
      this.refusals += 1;
      // The first time, the token may merely have expired; the bridge may issue another.
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

  beat() {
    if (this.state.phase !== "connected") return;
    if (Date.now() - this.state.heardAt > SILENCE_MS) this.failed(1006, "the bridge fell silent");
    else this.send("ping");
  }

  /** @param {Partial<ConnectionState>} change */
  change(change) {
    this.state = { ...this.state, ...change };
    this.surroundings.onState(this.state);
  }
}
