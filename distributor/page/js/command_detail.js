/**
 * One command: what `/api` knows of it, and its output from the first byte on, live.
 *
 * @typedef {"loading" | "ready" | "missing" | "error"} DetailPhase
 */

import { ApiError } from "./api.js";
import { OutputFeed } from "./output_feed.js";
import { randomId } from "./requests.js";

/** As ids of commands are spelt. */
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
    /** Nothing else is worth asking for. */
    this.isPossible = ID.test(commandId);
    this.feed = new OutputFeed(commandId);
    /** @type {DetailPhase} */
    this.phase = this.isPossible ? "loading" : "missing";
    this.problem = "";
    /** What `/api` told. @type {Awaited<ReturnType<import("./api.js").Api["command"]>> | null} */
    this.sent = null;
    /** Where it is not known whether it was sent again, trying once more queues nothing twice. */
    this.againKey = randomId();
    this.reading = new AbortController();
    /** What to show, until there is a screen to show it on. @type {import("./output_feed.js").Step[]} */
    this.early = [];
    /** @type {import("./terminal.js").Screen | null} */
    this.screen = null;
  }

  /** Begins to read and to follow. */
  start() {
    if (!this.isPossible) return;
    this.read();
    this.follow(0);
  }

  /** Nobody looks any more. */
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
      else if (this.screen) this.show(this.screen, step);
      else this.early.push(step);
    }
    this.changed();
  }

  /** Shows the output here from now on. @param {import("./terminal.js").Screen} screen */
  attach(screen) {
    this.screen = screen;
    for (const step of this.early.splice(0)) this.show(screen, step);
  }

  /** @param {import("./terminal.js").Screen} screen @param {import("./output_feed.js").Step} step */
  show(screen, step) {
    if ("bytes" in step) screen.write(step.bytes, step.stream);
    else if ("note" in step) screen.note(step.note);
  }
}
