/**
 * Holds the page's state, the open view and the user's actions. Views read the state and call the actions.
 *
 * @typedef {{id: number, text: string, bad: boolean}} Toast
 * @typedef {import("./protocol.js").Command} Command
 * @typedef {import("./protocol.js").Message} Message
 */

import { Api } from "./api.js";
import { AuditList } from "./audit_list.js";
import { CommandDetail } from "./command_detail.js";
import { CommandList } from "./command_list.js";
import { dataTime, currentOutages } from "./availability.js";
import { Connection } from "./connection.js";
import { copyText, downloadOutput } from "./download.js";
import { bytes } from "./format.js";
import { commandLink, parseRoute, titleOf } from "./router.js";
import { readReadiness } from "./readiness.js";
import { Requests, refusalText } from "./requests.js";
import { SendForm, draftOf } from "./send_form.js";
import { Session } from "./session.js";
import { SnapshotRest } from "./snapshot_rest.js";
import { initialState, newestOf, reduce } from "./store.js";
import { toggleTheme } from "./theme.js";

const TICK_MS = 1_000;
/** Batches messages for this long so that a burst causes one redraw. */
const BATCH_MS = 30;
const STALE_MS = 15_000;
const TOAST_MS = 8_000;

export class App {
  /** @param {import("./vendored.js").Vendored} vendored @param {(app: App) => void} draw */
  constructor(vendored, draw) {
    this.vendored = vendored;
    this.draw = draw;
    this.known = initialState();
    this.now = Date.now();
    this.route = parseRoute(location.hash);
    this.session = new Session((change) => this.onSessionChange(change));
    this.api = new Api(this.session);
    this.connection = new Connection({
      session: this.session,
      position: () => this.known.position,
      outputs: () => this.detail?.outputSubscriptions() ?? [],
      onMessage: (message) => this.receive(message),
      onState: (state) => this.onConnectionState(state),
    });
    this.requests = new Requests(this.connection);
    this.rest = new SnapshotRest(this.api, (message) => this.receive(message));
    this.list = new CommandList(
      this.api,
      () => this.changed(),
      () => Date.now() + this.known.clockOffset,
      (commands) => this.receive({ type: "commands:read", version: "", commands }),
    );
    this.audit = new AuditList(this.api, () => this.changed());
    /** @type {CommandDetail | null} */
    this.detail = null;
    /** The new command of each that was retried on this page, by id. @type {Map<string, string>} */
    this.retries = new Map();
    /** @type {SendForm | null} */
    this.form = null;
    /** @type {Toast[]} */
    this.toasts = [];
    /** @type {"" | "help" | "sign in"} */
    this.dialog = "";
    /** Why signing in failed. */
    this.signInProblem = "";
    this.signingIn = false;
    /** @type {Message[]} */
    this.received = [];
    this.batchTimer = 0;
    /** @type {Set<() => void>} */
    this.tickers = new Set();
    this.drawing = false;
    /** Whether the view has just changed and needs the focus. */
    this.viewChanged = false;
    this.focus = "";
    this.toastCount = 0;
    /**
     * The bridge's readiness while it accepts no dashboard.
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

  /** Schedules one redraw for all changes until then. */
  changed() {
    if (this.drawing) return;
    this.drawing = true;
    requestAnimationFrame(() => {
      this.drawing = false;
      this.now = Date.now() + this.known.clockOffset;
      this.draw(this);
    });
  }

  tick() {
    for (const act of this.tickers) act();
    this.refreshDetail();
    this.changed();
  }

  /** Reads the shown command again if what only `/api` has of it may have changed. */
  refreshDetail() {
    const { detail } = this;
    const command = detail && this.known.newest.get(detail.commandId);
    if (command && this.isLive() && detail.isOutdated(command, Date.now())) detail.read();
  }

  /** Calls `act` every second. @param {() => void} act @returns {() => void} unsubscribes */
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
    if (message.type === "connected") this.requests.resend();
    if (message.type === "connected" || message.type === "resync")
      this.rest.read(message, Date.now() + this.known.clockOffset);
    if (["command:accepted", "command:retried", "error"].includes(message.type)) this.onReply(message);
    this.received.push(message);
    if (message.type === "connected") this.applyReceived();
    else this.batchTimer ||= setTimeout(() => this.applyReceived(), BATCH_MS);
  }

  applyReceived() {
    const { complete } = this.known;
    const messages = this.received;
    this.received = [];
    clearTimeout(this.batchTimer);
    this.batchTimer = 0;
    this.known = reduce(this.known, messages, Date.now());
    if (this.known.complete !== complete) this.tick();
    if (this.route.view === "commands") this.list.follow(this.known.changes);
    this.changed();
  }

  /** @param {Message} message */
  onReply(message) {
    if (this.requests.settle(message) || message.type !== "error") return;
    // The command view reports a missing command itself.
    if (message.code === "NOT_FOUND" && message.commandId === this.detail?.commandId) return;
    this.toast(message.message, true);
  }

  /** @param {import("./connection.js").ConnectionState} state */
  onConnectionState(state) {
    if (state.phase === "refused") this.showDialog("sign in");
    if (state.phase === "waiting") this.askReadiness();
    if (state.phase === "connected") {
      this.readiness = null;
      if (this.dialog === "sign in") this.closeDialog();
      this.signInProblem = "";
      if (this.list.listed.phase === "error") this.list.read();
      if (this.detail?.phase === "error") this.detail.read();
    }
    this.changed();
  }

  /** Checks whether the bridge itself is down, or its server or Valkey. */
  async askReadiness() {
    const readiness = await readReadiness();
    if (this.connection.state.phase === "connected") return;
    this.readiness = readiness;
    this.changed();
  }

  /** Whether the bridge is connected and has sent something recently. */
  isLive() {
    const { phase, heardAt } = this.connection.state;
    return phase === "connected" && Date.now() - heardAt <= STALE_MS;
  }

  /** Current outages. @returns {import("./availability.js").Outage[]} */
  away() {
    const { heardAt, problem } = this.connection.state;
    const bridge = { connected: this.isLive(), heardAt: heardAt && heardAt + this.known.clockOffset, problem };
    return currentOutages(bridge, this.known.backends, this.readiness);
  }

  /** The time up to which the data shown is known, in ms: the start of an outage, else now. */
  asOf() {
    return dataTime(this.away(), this.now);
  }

  // Navigation

  /** @param {string} hash @param {string} [focus]  selector of the element to focus */
  navigate(hash, focus = "") {
    this.focus = focus;
    location.hash = hash;
  }

  /** @param {import("./router.js").Route} route */
  enter(route) {
    const before = this.route;
    this.route = route;
    if (route.view === "commands") this.list.show(route.query);
    else this.list.leave();
    if (route.view === "audit") this.audit.show(route.query);
    else this.audit.leave();
    if (route.view !== "command" || route.id !== this.detail?.commandId)
      this.showCommand(route.view === "command" ? route.id : "");
    this.form = route.view === "send" ? new SendForm({ agentId: route.query.agent ?? this.onlyAgent() }) : null;
    if (route.view === "send" && route.query.from) this.copyDraft(route.query.from);
    document.title = titleOf(route);
    if (before.view !== route.view || before.id !== route.id) {
      scrollTo(0, 0);
      this.viewChanged = true;
    }
    this.changed();
  }

  /** @param {string} commandId  empty for none */
  showCommand(commandId) {
    this.detail?.leave();
    this.detail = commandId
      ? new CommandDetail(commandId, this.api, this.connection, {
          changed: () => this.changed(),
          read: (command) => this.receive({ type: "commands:read", version: "", commands: [command] }),
        })
      : null;
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
      this.toast(`Could not copy the command: ${/** @type {Error} */ (error).message}`, true);
    }
    this.changed();
  }

  // User actions

  /** Whether the token permits sending; true until the roles are known. */
  canSend() {
    return !this.known.userId || this.known.roles.includes("operator");
  }

  /** Whether the user is known to be an administrator. */
  isAdmin() {
    return this.known.roles.includes("admin");
  }

  /** The newest known state of a command. @template {Command | null} T @param {T} command @returns {T} */
  latest(command) {
    return /** @type {T} */ (command && newestOf(this.known, command));
  }

  submit() {
    const { form } = this;
    const fields = form?.request();
    if (form && fields && !form.sending) {
      form.sending = true;
      this.request(fields, form.idempotencyKey(fields), () => this.form === form, (refusal) => form.refused(refusal));
    }
    this.changed();
  }

  /** Queues the shown command again, as a new one that names it. @param {Command} command */
  retry({ commandId, agentId }) {
    const { detail } = this;
    if (!detail) return;
    this.requests.request("command:retry", { commandId }, detail.retryKey, {
      accepted: ({ newCommandId }) => {
        this.retries.set(commandId, newCommandId);
        if (this.detail === detail) this.navigate(commandLink(newCommandId));
        else this.toast(`Sent to ${agentId}.`, false);
      },
      refused: (no) => this.toast(refusalText(agentId, no), true),
    });
  }

  /**
   * Requests a command. If the user has left the view when the reply arrives, shows a toast instead of navigating.
   * @param {Record<string, any>} fields
   * @param {string} key  its idempotency key
   * @param {() => boolean} stays  whether the requesting view is still open
   * @param {(refusal: Message) => void} [refused]  shows an error in the view instead of in a toast
   */
  request(fields, key, stays, refused) {
    const to = fields.agentId;
    this.requests.request("command:request", fields, key, {
      accepted: ({ commandId }) =>
        stays() ? this.navigate(commandLink(commandId)) : this.toast(`Sent to ${to}.`, false),
      refused: (no) => (refused && stays() ? refused(no) : this.toast(refusalText(to, no), true)),
    });
  }

  /** @param {string} commandId */
  cancel(commandId) {
    if (!this.connection.send("command:interrupt", { commandId, reason: "cancelled on the page" })) {
      this.toast("Not cancelled: not connected to the bridge.", true);
    }
  }

  /** Stops agents in an emergency. @param {{all: boolean, selectors: string[], reason: string}} fields */
  stopAgents(fields) {
    if (this.connection.send("emergency:stop", fields)) this.closeDialog();
    else this.toast("Not stopped: not connected to the bridge.", true);
  }

  /** Ends an emergency stop. @param {string} stopId */
  resumeAgents(stopId) {
    if (!this.connection.send("emergency:resume", { stopId })) {
      this.toast("Not resumed: not connected to the bridge.", true);
    }
  }

  /** Copies the output as shown. */
  async copyOutput() {
    const text = (await this.detail?.screen?.text()) ?? "";
    const copied = await copyText(text);
    this.toast(copied ? "Output copied." : "Not copied: blocked by the browser.", !copied);
  }

  /** Saves the stored output, byte for byte. */
  async downloadOutput() {
    try {
      const before = await downloadOutput(this.detail?.commandId ?? "");
      if (before) this.toast(`The file starts after the first ${bytes(before)}, which are no longer stored.`, true);
    } catch (error) {
      this.toast(`Output not downloaded: ${/** @type {Error} */ (error).message}`, true);
    }
  }

  /** Signs in with a token, in all tabs. What the page shows stays as it is. @param {string} token */
  async signIn(token) {
    if (this.signingIn) return;
    this.signingIn = true;
    this.changed();
    const answer = await this.session.signIn(token);
    this.signingIn = false;
    this.signInProblem = "problem" in answer ? answer.problem : "";
    if ("problem" in answer) return this.changed();
    this.closeDialog();
    this.onSessionChange(answer);
  }

  /** Signs out, in all tabs. */
  async signOut() {
    if (await this.session.signOut()) this.onSessionChange({ userId: "" });
    else this.toast("Not signed out: the bridge is unreachable.", true);
  }

  /**
   * A tab has signed in, perhaps again before the end of its session, or out.
   * @param {import("./session.js").SessionChange} change
   */
  onSessionChange({ userId }) {
    if (userId !== this.known.userId && this.known.userId) this.forgetEverything();
    if (userId) this.connection.restart();
    else this.connection.leave();
  }

  /** Keeps nothing of what a user has seen for the next one. */
  forgetEverything() {
    this.known = initialState();
    this.received = [];
    this.enter(this.route);
    if (this.route.view === "command") this.showCommand(this.route.id);
  }

  toggleTheme() {
    toggleTheme();
    this.changed();
  }

  /** @param {"help" | "sign in" | "emergency"} dialog */
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
