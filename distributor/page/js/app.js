/**
 * Ties the parts together: what is known, which view is open, and what the user can do. Views read it and call its
 * actions.
 *
 * @typedef {{id: number, text: string, bad: boolean}} Toast
 * @typedef {import("./protocol.js").Command} Command
 * @typedef {import("./protocol.js").Message} Message
 */

import { Api } from "./api.js";
import { CommandDetail } from "./command_detail.js";
import { CommandList } from "./command_list.js";
import { knownAt, whatIsAway } from "./availability.js";
import { Connection } from "./connection.js";
import { copyText, downloadOutput } from "./download.js";
import { bytes } from "./format.js";
import { commandLink, parseRoute, titleOf } from "./router.js";
import { readReadiness } from "./readiness.js";
import { Requests, refusalText } from "./requests.js";
import { SendForm, draftOf, requestAgain } from "./send_form.js";
import { SnapshotRest } from "./snapshot_rest.js";
import { nothingKnown, reduce } from "./store.js";
import { toggleTheme } from "./theme.js";
import { Tokens } from "./token.js";

const TICK_MS = 1_000;
/** Messages are taken together for this long, so that a burst costs one change of the page. */
const TOGETHER_MS = 30;
const STALE_MS = 15_000;
const TOAST_MS = 8_000;

export class App {
  /** @param {import("./vendored.js").Vendored} vendored @param {(app: App) => void} draw */
  constructor(vendored, draw) {
    this.vendored = vendored;
    this.draw = draw;
    this.known = nothingKnown();
    this.now = Date.now();
    this.route = parseRoute(location.hash);
    this.tokens = new Tokens();
    this.api = new Api(this.tokens);
    this.connection = new Connection({
      tokens: this.tokens,
      position: () => this.known.position,
      outputs: () => this.detail?.wanted() ?? [],
      onMessage: (message) => this.receive(message),
      onState: (state) => this.connectionChanged(state),
    });
    this.requests = new Requests(this.connection);
    this.rest = new SnapshotRest(this.api, (message) => this.receive(message));
    this.list = new CommandList(
      this.api,
      () => this.changed(),
      () => Date.now() + this.known.ahead,
    );
    /** @type {CommandDetail | null} */
    this.detail = null;
    /** @type {SendForm | null} */
    this.form = null;
    /** @type {Toast[]} */
    this.toasts = [];
    /** @type {"" | "help" | "token"} */
    this.dialog = "";
    /** @type {Message[]} */
    this.received = [];
    this.taking = 0;
    /** @type {Set<() => void>} */
    this.tickers = new Set();
    this.drawing = false;
    /** Whether the view is new, so that the focus has to go into it. */
    this.arrived = false;
    this.focus = "";
    this.toastCount = 0;
    /**
     * What the bridge says of its parts while it takes no dashboard.
     * @type {import("./availability.js").Readiness | null}
     */
    this.readiness = null;
  }

  start() {
    addEventListener("hashchange", () => this.enter(parseRoute(location.hash)));
    setInterval(() => this.tick(), TICK_MS);
    this.connection.start();
    this.enter(this.route);
  }

  // Drawing

  /** Draws soon, once for all that changed until then. */
  changed() {
    if (this.drawing) return;
    this.drawing = true;
    requestAnimationFrame(() => {
      this.drawing = false;
      this.now = Date.now() + this.known.ahead;
      this.draw(this);
    });
  }

  tick() {
    for (const act of this.tickers) act();
    this.changed();
  }

  /** Calls every second. @param {() => void} act @returns {() => void} ends it */
  onTick(act) {
    this.tickers.add(act);
    return () => this.tickers.delete(act);
  }

  // From the bridge

  /** @param {Message} message */
  receive(message) {
    const { detail } = this;
    if (message.type === "terminal:output" || message.type === "gap") {
      if (detail && detail.commandId === message.commandId) detail.accept(message);
      return;
    }
    if (message.type === "connected") this.requests.again();
    if (message.type === "connected" || message.type === "resync")
      this.rest.read(message, Date.now() + this.known.ahead);
    if (message.type === "command:accepted" || message.type === "error") this.answered(message);
    this.received.push(message);
    if (message.type === "connected") this.take();
    else this.taking ||= setTimeout(() => this.take(), TOGETHER_MS);
  }

  take() {
    const { complete } = this.known;
    const messages = this.received;
    this.received = [];
    clearTimeout(this.taking);
    this.taking = 0;
    this.known = reduce(this.known, messages, Date.now());
    if (this.known.complete !== complete) this.tick();
    if (this.route.view === "commands") this.list.follow(this.known.changes);
    this.changed();
  }

  /** @param {Message} message */
  answered(message) {
    if (this.requests.settle(message) || message.type !== "error") return;
    // The view of a command finds out by itself that there is none.
    if (message.code === "NOT_FOUND" && message.commandId === this.detail?.commandId) return;
    this.toast(message.message, true);
  }

  /** @param {import("./connection.js").ConnectionState} state */
  connectionChanged(state) {
    if (state.phase === "refused") this.showDialog("token");
    if (state.phase === "waiting") this.askReadiness();
    if (state.phase === "connected") {
      this.readiness = null;
      if (this.dialog === "token") this.closeDialog();
      if (this.list.listed.phase === "error") this.list.read();
      if (this.detail?.phase === "error") this.detail.read();
    }
    this.changed();
  }

  /** Finds out whether it is the bridge that is away, or what it depends on. */
  async askReadiness() {
    const readiness = await readReadiness();
    if (this.connection.state.phase === "connected") return;
    this.readiness = readiness;
    this.changed();
  }

  /** Whether the bridge is connected and heard of. */
  isLive() {
    const { phase, heardAt } = this.connection.state;
    return phase === "connected" && Date.now() - heardAt <= STALE_MS;
  }

  /** What is away. @returns {import("./availability.js").Away[]} */
  away() {
    const { heardAt, problem } = this.connection.state;
    const bridge = { connected: this.isLive(), heardAt: heardAt && heardAt + this.known.ahead, problem };
    return whatIsAway(bridge, this.known.backends, this.readiness);
  }

  /** The time up to which the data shown is known. Nothing is known of later while a part is away. */
  asOf() {
    return knownAt(this.away(), this.now);
  }

  // Where we are

  /** @param {string} hash @param {string} [focus]  selector of what to focus there */
  go(hash, focus = "") {
    this.focus = focus;
    location.hash = hash;
  }

  /** @param {import("./router.js").Route} route */
  enter(route) {
    const before = this.route;
    this.route = route;
    if (route.view === "commands") this.list.show(route.query);
    else this.list.leave();
    if (route.view !== "command" || route.id !== this.detail?.commandId)
      this.showCommand(route.view === "command" ? route.id : "");
    this.form = route.view === "send" ? new SendForm({ agentId: route.query.agent ?? this.onlyAgent() }) : null;
    if (route.view === "send" && route.query.from) this.copyDraft(route.query.from);
    document.title = titleOf(route);
    if (before.view !== route.view || before.id !== route.id) {
      scrollTo(0, 0);
      this.arrived = true;
    }
    this.changed();
  }

  /** @param {string} commandId  empty for none */
  showCommand(commandId) {
    this.detail?.leave();
    this.detail = commandId ? new CommandDetail(commandId, this.api, this.connection, () => this.changed()) : null;
    this.detail?.start();
  }

  onlyAgent() {
    const [first, second] = this.known.agents.keys();
    return first && !second ? first : "";
  }

  /** @param {string} commandId */
  async copyDraft(commandId) {
    const form = this.form;
    try {
      const sent = await this.api.command(commandId, new AbortController().signal);
      if (form === this.form) this.form = new SendForm(draftOf(sent));
    } catch (error) {
      this.toast(`That command could not be copied: ${/** @type {Error} */ (error).message}`, true);
    }
    this.changed();
  }

  // What the user does

  /** Whether the token permits to send. Until we know, it may. */
  maySend() {
    return !this.known.userId || this.known.scopes.includes("command:write");
  }

  /** The latest that is known of a command. @template {Command | null} T @param {T} command @returns {T} */
  newest(command) {
    if (!command) return command;
    return /** @type {T} */ (this.known.commands.get(command.commandId) ?? command);
  }

  submit() {
    const { form } = this;
    const fields = form?.request();
    if (form && fields && !form.sending) {
      form.sending = true;
      this.ask(fields, form.keyOf(fields), () => this.form === form, (refusal) => form.refused(refusal));
    }
    this.changed();
  }

  /** Sends the command that is shown again, as it was sent. */
  retry() {
    const { detail } = this;
    if (detail?.sent?.params) this.ask(requestAgain(detail.sent), detail.againKey, () => this.detail === detail);
  }

  /**
   * Requests a command. A user who has left the view by the time of the answer stays where they are and gets a toast.
   * @param {Record<string, any>} fields
   * @param {string} key  its idempotency key
   * @param {() => boolean} stays  whether the user is still in the view of the request
   * @param {(refusal: Message) => void} [refused]  shows the refusal in the view instead of in a toast
   */
  ask(fields, key, stays, refused) {
    const to = fields.agentId;
    this.requests.ask(fields, key, {
      accepted: ({ commandId }) => (stays() ? this.go(commandLink(commandId)) : this.toast(`Sent to ${to}.`, false)),
      refused: (no) => (refused && stays() ? refused(no) : this.toast(refusalText(to, no), true)),
    });
  }

  /** @param {string} commandId */
  cancel(commandId) {
    if (!this.connection.send("command:interrupt", { commandId, reason: "cancelled on the page" })) {
      this.toast("Not cancelled: not connected to the bridge.", true);
    }
  }

  /** Copies the output as it is shown. */
  async copyOutput() {
    const text = (await this.detail?.screen?.text()) ?? "";
    const copied = await copyText(text);
    this.toast(copied ? "Output copied." : "Not copied: the browser does not permit it.", !copied);
  }

  /** Saves the stored output, byte for byte. */
  async downloadOutput() {
    try {
      const before = await downloadOutput(this.detail?.commandId ?? "", this.tokens);
      if (before) this.toast(`The first ${bytes(before)} are no longer kept: the file begins after them.`, true);
    } catch (error) {
      this.toast(`Output not downloaded: ${/** @type {Error} */ (error).message}`, true);
    }
  }

  /** @param {string} token */
  useToken(token) {
    this.tokens.set(token);
    this.closeDialog();
    this.connection.restart();
  }

  toggleTheme() {
    toggleTheme();
    this.changed();
  }

  /** @param {"help" | "token"} dialog */
  showDialog(dialog) {
    this.dialog = dialog;
    this.changed();
  }

  closeDialog() {
    this.dialog = "";
    this.changed();
  }

  /** @param {string} text @param {boolean} bad */
  toast(text, bad) {
    const id = (this.toastCount += 1);
    this.toasts = [...this.toasts.slice(-3), { id, text, bad }];
    setTimeout(() => this.dismiss(id), TOAST_MS);
    this.changed();
  }

  /** @param {number} id */
  dismiss(id) {
    this.toasts = this.toasts.filter((toast) => toast.id !== id);
    this.changed();
  }
}
