import { openScreen } from "/js/terminal.js";
import { loadVendored } from "/js/vendored.js";
import { same } from "./check.js";

/** What the terminal shows after some pieces, as it would be copied. */
async function shown(...pieces) {
  const element = document.createElement("div");
  element.style.height = "300px";
  document.body.append(element);
  const screen = openScreen(element, (await loadVendored()).terminal, "terminal");
  for (const piece of pieces) {
    const encoded = new TextEncoder().encode(piece.replace("2>", ""));
    screen.write(encoded, piece.startsWith("2>") ? "stderr" : "stdout");
  }
  const text = await screen.text();
  screen.dispose();
  element.remove();
  return text;
}

const LINES = Array.from({ length: 60 }, (_, at) => `line ${at}\n`).join("");

/** Each erases the screen, its scrollback, or lines, where a terminal obeys it. */
const ERASERS = [
  ["\x1bc", "\x1b[2J", "\x1b[3J", "\x1b[?2J", "\x1b[?3J", "\x1b[H\x1b[2J\x1b[3J", "\x1b[2J\x1b[3J\x1b[H", "\u009b3J"],
  ["\x1b#8", "\x1b[99S", "\x1b[H\x1b[99M", "\x1b[H\x1b[99L", "\x1b[99T"],
  ["\x1b[?47h", "\x1b[?1047h", "\x1b[?1049h", "\x1b[?3h", "\x1b[!p"],
].flat();

export const tests = {
  async "what was printed cannot be erased"() {
    for (const eraser of ERASERS) {
      const text = await shown(LINES, `${eraser}\x1b[999;1H\nthe end\n`);
      const lines = text.split("\n").map((line) => line.trim());
      same([eraser, lines.filter((line) => line.startsWith("line ")).length], [eraser, 60]);
      same([eraser, lines.includes("the end")], [eraser, true]);
    }
  },
  async "a program may write over its own line"() {
    same(await shown("10 %\r20 %\r\x1b[Kdone\n"), (await loadVendored()).terminal ? "done" : "10 %20 %done");
  },
  async "a copy has no marks of stderr, and lines that were wrapped are one"() {
    same(await shown("out\n", "2>err\n", "x".repeat(1000)), `out\nerr\n${"x".repeat(1000)}`);
  },
  async "what would reorder a line is spelt"() {
    same(await shown("user\u202etxt.exe\n"), "user\\u202etxt.exe");
  },
};
