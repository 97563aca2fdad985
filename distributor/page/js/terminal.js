/**
 * Displays program output in a terminal. Output is hostile: it may set colours and move the cursor within its own
 * rectangle, nothing else. No links, clipboard, title, window operations, replies to queries or mouse reporting.
 *
 * Printed text stays: erasing the screen scrolls it into the scrollback, and erasing the scrollback has no effect. A
 * program can still overwrite its own lines; the raw view shows every byte.
 *
 * @typedef {object} Screen
 * @property {(bytes: Uint8Array, stream: string) => void} write
 * @property {(text: string) => void} note
 * @property {() => Promise<string>} text  the text shown, for the clipboard
 * @property {() => void} dispose
 * @typedef {NonNullable<import("./vendored.js").TerminalModules>} TerminalModules
 */

import { BidiGuard } from "./bidi_guard.js";
import { bytes as formatBytes } from "./format.js";
import { CreditedWriter } from "./credited_writer.js";
import { visible } from "./foreign_text.js";
import { LineMarker, STDERR_MARK } from "./line_marker.js";
import { RawText } from "./raw_text.js";
import { makeElementsStrict } from "./strict_elements.js";

const SCROLLBACK_LINES = 20_000;
/** Title and icon, colours, working directory, links, clipboard, notifications, shell integration. */
const IGNORED_OSC = [
  0, 1, 2, 4, 5, 7, 8, 9, 10, 11, 12, 13, 17, 19, 22, 50, 52, 99, 104, 110, 111, 112, 133, 633, 777, 1337,
];
/**
 * Mouse and focus reporting and bracketed paste: the page sends no input, and reporting would capture the mouse.
 * Alternate screen: it would hide earlier output, for good if the program never leaves it.
 */
const IGNORED_MODES = new Set([9, 47, 1000, 1001, 1002, 1003, 1004, 1005, 1006, 1015, 1016, 1047, 1048, 1049, 2004]);
/** Scroll up and down, insert and delete lines: these would remove lines for good. */
const IGNORED_CSI = ["S", "T", "L", "M"];
const ERASE_SCROLLBACK = 3;
const PLAIN_CHARACTERS = 256 * 1024;
const RAW_CHARACTERS = 2 * 1024 * 1024;

const encoder = new TextEncoder();
/** Saves the cursor and attributes, prints a red mark, restores them, and moves past the mark. */
const RED_MARK = encoder.encode(`\x1b7\x1b[0;31m${STDERR_MARK}\x1b8\x1b[2C`);
const PLAIN_MARK = encoder.encode(`${STDERR_MARK} `);

/**
 * @param {HTMLElement} element
 * @param {TerminalModules | null} modules
 * @param {"terminal" | "raw"} look
 * @returns {Screen}
 */
export function openScreen(element, modules, look) {
  if (look === "raw") return rawScreen(element);
  return modules ? terminalScreen(element, modules) : plainScreen(element);
}

/** @param {HTMLElement} element @param {TerminalModules} modules @returns {Screen} */
function terminalScreen(element, { Terminal, FitAddon }) {
  makeElementsStrict();
  const terminal = new Terminal({
    allowProposedApi: false,
    convertEol: true,
    cursorInactiveStyle: "none",
    disableStdin: true,
    fontFamily: cssValue("--mono"),
    fontSize: 13,
    lineHeight: 1.2,
    linkHandler: { activate() {}, allowNonHttpProtocols: false },
    minimumContrastRatio: 4.5,
    scrollback: SCROLLBACK_LINES,
    scrollOnEraseInDisplay: true,
    theme: theme(),
    windowOptions: {},
  });
  confine(terminal.parser);
  // Leave keys to the page: the terminal takes no input, and Tab must move the focus on.
  terminal.attachCustomKeyEventHandler(() => false);
  const fit = new FitAddon();
  terminal.loadAddon(fit);
  terminal.open(element);
  terminal.textarea?.setAttribute("aria-label", "Command output, read-only");
  const sized = new ResizeObserver(() => requestAnimationFrame(() => terminal.element?.isConnected && fit.fit()));
  sized.observe(element);
  const restyle = () => (terminal.options.theme = theme());
  addEventListener("themechange", restyle);
  const writer = new CreditedWriter((data, done) => terminal.write(data, done), mark);
  const marker = new LineMarker(RED_MARK);
  const guard = new BidiGuard();
  return {
    write: (data, stream) => writer.push(marker.marked(guard.escape(data, stream), stream)),
    text: () => writer.idle().then(() => bufferText(terminal.buffer.active)),
    note(text) {
      marker.newLine();
      writer.push(noteBytes(text));
    },
    dispose() {
      removeEventListener("themechange", restyle);
      sized.disconnect();
      terminal.dispose();
    },
  };
}

/** The lines of a terminal, without stderr marks. @param {any} buffer */
function bufferText(buffer) {
  let text = "";
  for (let at = 0; at < buffer.length; at += 1) {
    const line = buffer.getLine(at);
    if (at && !line.isWrapped) text += "\n";
    text += line.translateToString(!buffer.getLine(at + 1)?.isWrapped);
  }
  return text.replaceAll(new RegExp(`^${STDERR_MARK} `, "gm"), "").trimEnd();
}

/** @param {any} parser */
function confine(parser) {
  const swallow = () => true;
  // Full reset, and the alignment pattern that fills the screen.
  parser.registerEscHandler({ final: "c" }, swallow);
  parser.registerEscHandler({ intermediates: "#", final: "8" }, swallow);
  for (const final of IGNORED_CSI) parser.registerCsiHandler({ final }, swallow);
  for (const prefix of ["", "?"]) {
    parser.registerCsiHandler({ ...(prefix && { prefix }), final: "J" }, (/** @type {any[]} */ params) =>
      params.includes(ERASE_SCROLLBACK),
    );
  }
  for (const code of IGNORED_OSC) parser.registerOscHandler(code, () => true);
  parser.registerDcsHandler({ intermediates: "$", final: "q" }, () => true);
  for (const final of ["h", "l"]) {
    parser.registerCsiHandler({ prefix: "?", final }, (/** @type {(number | number[])[]} */ modes) =>
      modes.some((mode) => IGNORED_MODES.has(Number(mode))),
    );
  }
}

/** Fallback without xterm.js: text with escape sequences removed. @param {HTMLElement} element @returns {Screen} */
function plainScreen(element) {
  const page = textScreen(element, "Command output", PLAIN_CHARACTERS);
  const decoder = new TextDecoder();
  const marker = new LineMarker(PLAIN_MARK);
  return {
    ...page,
    write: (data, stream) =>
      page.append(withoutEscapes(decoder.decode(marker.marked(data, stream), { stream: true })), "stdout"),
    note(text) {
      marker.newLine();
      page.note(text);
    },
  };
}

/** Shows every byte, escape sequences as text. @param {HTMLElement} element @returns {Screen} */
function rawScreen(element) {
  const page = textScreen(element, "Raw output", RAW_CHARACTERS);
  const raw = new RawText();
  return { ...page, write: (data, stream) => page.append(raw.add(data, stream), stream) };
}

/**
 * A scrolling text view. Beyond a limit the oldest text is dropped and a line says so.
 * @param {HTMLElement} element @param {string} label @param {number} most  characters
 */
function textScreen(element, label, most) {
  const pre = document.createElement("pre");
  pre.className = "plain-terminal";
  pre.tabIndex = 0;
  pre.setAttribute("aria-label", label);
  const lost = document.createElement("span");
  pre.append(lost);
  element.append(pre);
  let kept = 0;
  const append = (/** @type {string} */ text, /** @type {string} */ look) => {
    const atEnd = pre.scrollHeight - pre.scrollTop - pre.clientHeight < 8;
    const piece = document.createElement("span");
    piece.className = look;
    piece.textContent = text;
    pre.append(piece);
    kept += text.length;
    while (kept > most && pre.childNodes.length > 2) {
      kept -= lost.nextSibling?.textContent?.length ?? 0;
      lost.nextSibling?.remove();
      lost.textContent = "── earlier output is not shown: use Download ──\n";
    }
    if (atEnd) pre.scrollTop = pre.scrollHeight;
  };
  return {
    append,
    note: (/** @type {string} */ text) => append(`\n── ${text} ──\n`, "note"),
    text: async () => pre.textContent ?? "",
    dispose: () => pre.remove(),
  };
}

/** Removes escape sequences and escapes other invisible characters. @param {string} text */
export function withoutEscapes(text) {
  const plain = text
    .replace(/\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])/g, "")
    .replace(/\r\n/g, "\n")
    .replace(/[\x00-\x08\x0b-\x1f\x7f-\x9f]/g, "");
  return plain.split(/([\n\t])/).map((part) => (/[\n\t]/.test(part) ? part : visible(part))).join("");
}

/** @param {number} dropped */
const mark = (dropped) => noteBytes(`${formatBytes(dropped)} skipped: output too fast for this view`);

/** A note between the program's lines, unaffected by its colours. @param {string} text */
const noteBytes = (text) => encoder.encode(`\x1b[0m\r\n\x1b[2m── ${text} ──\x1b[0m\r\n`);

/** @param {string} name */
const cssValue = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function theme() {
  return {
    background: cssValue("--terminal"),
    foreground: cssValue("--terminal-text"),
    cursor: cssValue("--terminal"),
    selectionBackground: cssValue("--selection"),
    scrollbarSliderBackground: cssValue("--scrollbar"),
    scrollbarSliderHoverBackground: cssValue("--scrollbar"),
    scrollbarSliderActiveBackground: cssValue("--scrollbar"),
    ...Object.fromEntries(ANSI.map((name) => [name, cssValue(`--ansi-${name.toLowerCase()}`)])),
  };
}

const ANSI = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"].flatMap((name) => [
  name,
  `bright${name[0].toUpperCase()}${name.slice(1)}`,
]);
