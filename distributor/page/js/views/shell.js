/** The page frame: navigation, connection status, outage banners and toasts. */

import { h } from "../dom.js";
import { foreign } from "../foreign_text.js";
import { localTime } from "../format.js";
import { link } from "../router.js";
import { expiryWarning } from "../session.js";
import { theme } from "../theme.js";
import { agentsView } from "./agents.js";
import { auditView } from "./audit.js";
import { commandView } from "./command.js";
import { commandsView } from "./commands.js";
import { dialogs } from "./dialogs.js";
import { stopBanners } from "./emergency.js";
import { overviewView } from "./overview.js";
import { badge, empty } from "./parts.js";
import { sendView } from "./send.js";

/** @typedef {import("../app.js").App} App */

const TABS = [
  ["overview", "Overview", link("")],
  ["agents", "Agents", link("agents")],
  ["commands", "Commands", link("commands")],
];
const ADMIN_TABS = [...TABS, ["audit", "Audit", link("audit")]];

/** @type {Record<string, (app: App) => import("../dom.js").Element_>} */
const VIEWS = {
  overview: overviewView,
  agents: agentsView,
  audit: auditView,
  commands: commandsView,
  command: commandView,
  send: sendView,
  missing: () => h("div", { class: "panel" }, empty("Page not found", h("a", { href: link("") }, "Overview"))),
};

/** @param {App} app */
export function shell(app) {
  return [
    h("a", { class: "skip-link", href: "#content", onclick: skip }, "Skip to content"),
    h("header", { class: "top", key: "top" }, top(app), insecureBanner(app), banner(app)),
    h(
      "main",
      { key: "main", id: "content", class: `content${app.away().length ? " stale" : ""}`, tabindex: -1 },
      h("div", { key: `${app.route.view} ${app.route.id}` }, VIEWS[app.route.view](app)),
    ),
    h(
      "div",
      { key: "toasts", class: "toasts", role: "status" },
      app.toasts.map((toast) => toastView(app, toast)),
    ),
    dialogs(app),
  ];
}

/** Moves the focus without changing the address. @param {Event} event */
function skip(event) {
  event.preventDefault();
  document.getElementById("content")?.focus();
}

/** @param {App} app */
function top(app) {
  const current = app.route.view === "command" ? "commands" : app.route.view;
  return h(
    "div",
    { class: "top-inner" },
    h("a", { class: "brand", href: link("") }, mark(), h("span", null, "Command distributor")),
    h(
      "nav",
      { class: "tabs", "aria-label": "Views" },
      (app.isAdmin() ? ADMIN_TABS : TABS).map(([view, name, href]) =>
        h("a", { href, "aria-current": view === current ? "page" : null }, name),
      ),
    ),
    h(
      "div",
      { class: "top-end" },
      connectionBadge(app),
      user(app),
      h(
        "a",
        { class: "button primary", href: link("send"), "aria-current": current === "send" ? "page" : null },
        "Send…",
      ),
      h(
        "button",
        {
          type: "button",
          class: "icon",
          "aria-label": `Switch to ${theme() === "dark" ? "light" : "dark"}`,
          onclick: () => app.toggleTheme(),
        },
        themeIcon(),
      ),
      h(
        "button",
        {
          type: "button",
          class: "icon key-hint",
          "aria-label": "Keyboard shortcuts",
          onclick: () => app.showDialog("help"),
        },
        "?",
      ),
    ),
  );
}

/** Who is signed in. @param {App} app */
function user(app) {
  const { phase } = app.connection.state;
  if (phase === "refused")
    return h("button", { type: "button", onclick: () => app.showDialog("sign in") }, "Sign in");
  const { userId } = app.known;
  if (!userId) return null;
  return [
    h("span", { key: "user", class: "user", title: "Signed in as" }, foreign(userId)),
    h("button", { key: "sign out", type: "button", class: "small", onclick: () => app.signOut() }, "Sign out"),
  ];
}

function mark() {
  return h(
    "svg",
    {
      viewBox: "0 0 24 24",
      width: 22,
      height: 22,
      "aria-hidden": "true",
      fill: "none",
      stroke: "currentColor",
      "stroke-width": 2,
    },
    h("path", { d: "M3 12h6M9 12l9-7M9 12h9M9 12l9 7" }),
    ["5", "12", "19"].map((y) => h("circle", { key: y, cx: 20, cy: y, r: 1.6, fill: "currentColor", stroke: "none" })),
  );
}

function themeIcon() {
  return h(
    "svg",
    { viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true" },
    h("circle", { cx: 8, cy: 8, r: 6, fill: "none", stroke: "currentColor", "stroke-width": 1.6 }),
    h("path", { d: "M8 2a6 6 0 0 1 0 12z", fill: "currentColor" }),
  );
}

/** Badge by unavailable part. @type {Record<import("../availability.js").Part, [string, string]>} */
const OUTAGE_BADGES = {
  bridge: ["warn", "bridge unreachable"],
  server: ["bad", "server unavailable"],
  valkey: ["lost", "Valkey unavailable"],
};

/** @param {App} app */
function connectionBadge(app) {
  return h("span", { class: "connection", role: "status" }, connectionBadges(app));
}

/** @param {App} app */
function connectionBadges(app) {
  const { phase, attempt } = app.connection.state;
  if (phase === "refused") return badge("bad", "signed out");
  if (phase === "connecting" && !attempt && !app.known.complete) return badge("idle", "connecting");
  const away = app.away();
  return away.length ? away.map(({ part }) => badge(...OUTAGE_BADGES[part])) : badge("good", "live");
}

/** @type {Record<string, string>} */
const INSECURITIES = {
  plain_page: "This page and your token cross the network in plain text: anyone on the path can read and change them.",
  plain_server:
    "The bridge calls its server over the network in plain text: anyone on the path can read and change the calls.",
  server_unauthenticated:
    "The server does not authenticate its callers: anyone who can reach it can run commands on every agent.",
  server_plain_text:
    "The server accepts plain text from other hosts: anyone on the path can read and change commands and results.",
  server_plain_http: "The server sends its metrics to other hosts in plain text: anyone on the path can read them.",
};

/** What is insecure about the page and the server, one sentence each. It lasts, so is no alert. @param {App} app */
function insecureBanner(app) {
  const found = app.known.insecure.map((name) => INSECURITIES[name]).filter(Boolean);
  if (!found.length) return null;
  return h(
    "div",
    { key: "banner insecure", class: "banner insecure", role: "status" },
    h(
      "div",
      { class: "banner-inner" },
      h("strong", null, "Insecure"),
      h(
        "ul",
        null,
        found.map((sentence) => h("li", { key: sentence }, sentence)),
      ),
    ),
  );
}

/** @param {App} app */
function banner(app) {
  return [stopBanners(app), expiryBanner(app), outageBanners(app)];
}

/** Says in time that the session ends. @param {App} app */
function expiryBanner(app) {
  const warning = app.connection.state.phase === "connected" && expiryWarning(app.known.expires, app.now);
  if (!warning) return null;
  return h(
    "div",
    { key: "banner expiry", class: "banner", role: "status" },
    h(
      "div",
      { class: "banner-inner" },
      h("span", null, warning),
      h("button", { type: "button", class: "small", onclick: () => app.showDialog("sign in") }, "Sign in again"),
    ),
  );
}

/** @param {App} app */
function outageBanners(app) {
  const { phase, attempt } = app.connection.state;
  if (phase === "connecting" && !attempt) return null;
  return app.away().map((away) =>
    h(
      "div",
      { key: `banner ${away.part}`, class: `banner ${away.part}`, role: "alert" },
      h("div", { class: "banner-inner" }, h("span", null, outageText(app, away)), bridgeActions(app)),
    ),
  );
}

/**
 * Which part is unavailable, since when, and the effect on the page.
 * @param {App} app @param {import("../availability.js").Outage} away
 */
function outageText(app, { part, since, why }) {
  const { complete } = app.known;
  const at = since ? localTime(since, app.now) : "";
  const old = complete && at ? `Data as of ${at}.` : "No data yet.";
  const because = why ? [": ", foreign(why)] : "";
  if (part === "bridge") {
    if (app.connection.state.phase === "connected") return ["The bridge has not responded since ", at, ". ", old];
    return ["Not connected", because, ". ", old];
  }
  const name = part === "server" ? "The server" : "Valkey";
  const effect =
    part === "server"
      ? "Commands cannot be sent or cancelled, and agents cannot report. "
      : "The page receives no updates. ";
  return [name, at ? ` has been unavailable since ${at}` : " is unavailable", because, ". ", effect, old];
}

/** @param {App} app */
function bridgeActions(app) {
  const { phase, retryAt } = app.connection.state;
  return [
    phase === "waiting" &&
      h("span", { class: "quiet", "aria-hidden": "true" }, `Retrying in ${seconds(retryAt)} s`),
    phase === "waiting" &&
      h("button", { type: "button", class: "small", onclick: () => app.connection.retryNow() }, "Retry now"),
    phase === "refused" &&
      h("button", { type: "button", class: "small", onclick: () => app.showDialog("sign in") }, "Sign in"),
  ];
}

/** @param {number} time */
const seconds = (time) => Math.max(0, Math.ceil((time - Date.now()) / 1000));

/** @param {App} app @param {import("../app.js").Toast} toast */
function toastView(app, toast) {
  return h(
    "div",
    { key: toast.id, class: `toast ${toast.bad ? "bad" : ""}` },
    h("span", null, foreign(toast.text)),
    h("button", { class: "small", "aria-label": "Dismiss", onclick: () => app.dismiss(toast.id) }, "×"),
  );
}
