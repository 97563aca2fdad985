/**
 * One command: what `/api` knows of it, and its output from the first byte on, live.
 *
 * @typedef {"loading" | "ready" | "missing" | "error"} DetailPhase
 */

import { ApiError } from "./api.js";
import { bytes as inBytes } from "./format.js";
import { OutputFeed } from "./output_feed.js";
import { OutputRecord } from "./output_record.js";
import { randomId } from "./requests.js";

/** The pattern of command ids. */
const ID = /^(?:\{[0-9a-f]{1,8}\})?[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

export class CommandDetail {
  /**
   * @param {string} commandId
   * @param {import("./api.js").Api} api
   * @param {import("./connection.js").Connection} connection
   * @param {() => void} changed
   */
  constructor(commandId, api, connection, changed) {
    this.commandId = commandId;
    this.api = api;
    this.connection = connection;
    this.changed = changed;
    /** Anything else cannot exist. */
    this.isPossible = ID.test(commandId);
    this.feed = new OutputFeed(commandId);
    /** @type {DetailPhase} */
    this.phase = this.isPossible ? "loading" : "missing";
    this.problem = "";
    /** The reply of `/api`. @type {Awaited<ReturnType<import("./api.js").Api["command"]>> | null} */
    this.sent = null;
    /** One key for all tries to run it again, so that a try whose outcome is unknown is not queued twice. */
    this.againKey = randomId();
    this.reading = new AbortController();
    this.record = new OutputRecord();
    /** How its output is shown. @type {"terminal" | "raw"} */
    this.look = "terminal";
    /** @type {import("./terminal.js").Screen | null} */
    this.screen = null;
  }

  /** Begins to read and to follow. */
  start() {
    if (!this.isPossible) return;
    this.read();
    this.follow(0);
  }

  /** The view was closed. */
  leave() {
    this.reading.abort();
    if (this.isPossible) this.connection.send("unsubscribe", { output: [this.commandId] });
  }

  async read() {
    this.reading.abort();
    const reading = (this.reading = new AbortController());
    try {
      this.sent = await this.api.command(this.commandId, reading.signal);
      Object.assign(this, { phase: "ready", problem: "" });
    } catch (error) {
      if (reading.signal.aborted) return;
      if (!(error instanceof ApiError)) throw error;
      this.phase = error.status === 404 || error.status === 400 ? "missing" : "error";
      this.problem = error.message;
    }
    this.changed();
  }

  /** What output to subscribe to after a reconnect. */
  wanted() {
    return this.isPossible ? [{ commandId: this.commandId, offset: this.feed.next }] : [];
  }

  /** @param {number} offset */
  follow(offset) {
    this.connection.send("subscribe", { output: [{ commandId: this.commandId, offset }] });
  }

  /** @param {import("./protocol.js").Message} message  about the output of this command */
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
   * Shows the output here, from the first byte that this page still has.
   * @param {import("./terminal.js").Screen} screen
   */
  attach(screen) {
    this.screen = screen;
    const { dropped, pieces } = this.record;
    if (dropped) screen.note(`${inBytes(dropped)} before this are no longer in this page: download them`);
    for (const piece of pieces) show(screen, piece);
  }

  /** That screen is gone. @param {import("./terminal.js").Screen} screen */
  detach(screen) {
    if (this.screen === screen) this.screen = null;
  }

  /** @param {"terminal" | "raw"} look */
  showAs(look) {
    this.look = look;
    this.changed();
  }
}

/** @param {import("./terminal.js").Screen} screen @param {import("./output_feed.js").Piece} piece */
function show(screen, piece) {
  if ("bytes" in piece) screen.write(piece.bytes, piece.stream);
  else screen.note(piece.note);
}
