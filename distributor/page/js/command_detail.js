/**
 * State of the command view: the command as read from `/api`, and its output, live from the first byte.
 *
 * @typedef {"loading" | "ready" | "missing" | "error"} DetailPhase
 */

import { ApiError } from "./api.js";
import { bytes as formatBytes } from "./format.js";
import { OutputFeed } from "./output_feed.js";
import { OutputRecord } from "./output_record.js";
import { hasEnded } from "./protocol.js";
import { randomId } from "./requests.js";

/** How often a command is read that has not ended: its agent's heartbeats report how long it has been silent. */
const READ_MS = 10_000;

/** The pattern of command ids. */
const ID = /^(?:\{[0-9a-f]{1,8}\})?[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

export class CommandDetail {
  /**
   * @param {string} commandId
   * @param {import("./api.js").Api} api
   * @param {import("./connection.js").Connection} connection
   * @param {{changed: () => void, read: (command: import("./protocol.js").Command) => void}} events  `read` gets the
   *   command as read
   */
  constructor(commandId, api, connection, { changed, read }) {
    this.commandId = commandId;
    this.api = api;
    this.connection = connection;
    this.changed = changed;
    this.onRead = read;
    /** Whether the id is well-formed; other ids cannot exist. */
    this.isValidId = ID.test(commandId);
    this.feed = new OutputFeed(commandId);
    /** @type {DetailPhase} */
    this.phase = this.isValidId ? "loading" : "missing";
    this.problem = "";
    /** The response of `/api`. @type {Awaited<ReturnType<import("./api.js").Api["command"]>> | null} */
    this.sent = null;
    /** When the last read began. */
    this.readAt = 0;
    /** Idempotency key of "Retry": a retry after an unknown outcome is not queued twice. */
    this.retryKey = randomId();
    this.reading = new AbortController();
    this.record = new OutputRecord();
    /** How the output is shown. @type {"terminal" | "raw"} */
    this.look = "terminal";
    /** @type {import("./terminal.js").Screen | null} */
    this.screen = null;
  }

  /** Reads the command and subscribes to its output. */
  start() {
    if (!this.isValidId) return;
    this.read();
    this.follow(0);
  }

  /** Stops reading and unsubscribes when the view closes. */
  leave() {
    this.reading.abort();
    if (this.isValidId) this.connection.send("unsubscribe", { output: [this.commandId] });
  }

  /**
   * Whether a read would bring more than the last: another attempt, the end, or since when it has been silent.
   * @param {import("./protocol.js").Command} command  its newest known state @param {number} now
   */
  isOutdated(command, now) {
    const { sent, phase, readAt } = this;
    if (phase !== "ready" || !sent || now - readAt < 1_000) return false;
    const changed = command.attempt > sent.command.attempt || hasEnded(command) !== hasEnded(sent.command);
    return changed || (!hasEnded(command) && now - readAt >= READ_MS);
  }

  async read() {
    this.reading.abort();
    this.readAt = Date.now();
    const reading = (this.reading = new AbortController());
    try {
      const sent = await this.api.command(this.commandId, reading.signal);
      // Without the server, the request is missing: keep it as it was read.
      this.sent = sent.params ? sent : { ...this.sent, ...sent, params: this.sent?.params ?? null };
      Object.assign(this, { phase: "ready", problem: "" });
      this.onRead(this.sent.command);
    } catch (error) {
      if (reading.signal.aborted) return;
      if (!(error instanceof ApiError)) throw error;
      // What was read before still stands.
      if (this.phase === "ready" && error.status !== 404) return;
      this.phase = error.status === 404 || error.status === 400 ? "missing" : "error";
      this.problem = error.message;
    }
    this.changed();
  }

  /** Output subscriptions to renew after a reconnect. */
  outputSubscriptions() {
    return this.isValidId ? [{ commandId: this.commandId, offset: this.feed.next }] : [];
  }

  /** @param {number} offset */
  follow(offset) {
    this.connection.send("subscribe", { output: [{ commandId: this.commandId, offset }] });
  }

  /** @param {import("./protocol.js").Message} message  `terminal:output` or `gap` of this command */
  accept(message) {
    for (const step of this.feed.accept(message)) {
      if ("again" in step) this.follow(step.again);
      else {
        this.record.push(step);
        if (this.screen) show(this.screen, step);
      }
    }
    this.changed();
  }

  /**
   * Shows the output on a screen, from the first byte still in the page.
   * @param {import("./terminal.js").Screen} screen
   */
  attach(screen) {
    this.screen = screen;
    const { dropped, pieces } = this.record;
    if (dropped) screen.note(`the ${formatBytes(dropped)} before this are no longer in the page: use Download`);
    for (const piece of pieces) show(screen, piece);
  }

  /** Detaches a closed screen. @param {import("./terminal.js").Screen} screen */
  detach(screen) {
    if (this.screen === screen) this.screen = null;
  }

  /** @param {"terminal" | "raw"} look */
  setLook(look) {
    this.look = look;
    this.changed();
  }
}

/** @param {import("./terminal.js").Screen} screen @param {import("./output_feed.js").Piece} piece */
function show(screen, piece) {
  if ("bytes" in piece) screen.write(piece.bytes, piece.stream);
  else screen.note(piece.note);
}
