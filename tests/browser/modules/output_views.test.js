import { BidiGuard } from "/js/bidi_guard.js";
import { OutputRecord } from "/js/output_record.js";
import { RawText } from "/js/raw_text.js";
import { withoutEscapes } from "/js/terminal.js";
import { same } from "./check.js";

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** The raw text of pieces: texts, or lists of bytes. */
function raw(...pieces) {
  const text = new RawText();
  const encoded = pieces.map((piece) => (typeof piece === "string" ? encoder.encode(piece) : Uint8Array.from(piece)));
  const shown = encoded.map((piece) => text.add(piece, "stdout"));
  return shown.join("") + text.rest();
}

/** What the terminal is given of pieces, `2>` before those of stderr. */
function escape(...pieces) {
  const guard = new BidiGuard();
  const parts = pieces.map((piece) =>
    typeof piece === "string"
      ? guard.escape(encoder.encode(piece.replace("2>", "")), piece.startsWith("2>") ? "stderr" : "stdout")
      : guard.escape(Uint8Array.from(piece), "stdout"),
  );
  return decoder.decode(Uint8Array.from(parts.flatMap((part) => [...part])));
}

export const tests = {
  "raw text spells escapes and keeps lines"() {
    same(raw("a\x1b[2J\r\nb\tc\\x1b\0"), "a\\x1b[2J\\r\nb\\tc\\\\x1b\\x00");
    same(raw("Grüße 漢字 👍 \u202e\u009b\ufeff"), "Grüße 漢字 👍 \\u202e\\u009b\\ufeff");
  },
  "raw text tells every byte that is no text"() {
    same(raw([0x61, 0xff, 0x80, 0xc3, 0x28, 0xed, 0xa0, 0x80, 0x62]), "a\\xff\\x80\\xc3(\\xed\\xa0\\x80b");
    same(raw([0xc0, 0x80, 0xf5]), "\\xc0\\x80\\xf5");
  },
  "a character in pieces is one, wherever it is torn"() {
    const bytes = [...encoder.encode("a€😀é")];
    for (let at = 0; at <= bytes.length; at += 1) same(raw(bytes.slice(0, at), bytes.slice(at)), "a€😀é");
    same(raw([0xe2, 0x82]), "\\xe2\\x82");
  },
  "streams do not tear each other's characters"() {
    const text = new RawText();
    const shown = [text.add(Uint8Array.of(0xe2, 0x82), "stdout"), text.add(Uint8Array.of(0x21), "stderr")];
    same([...shown, text.add(Uint8Array.of(0xac), "stdout")], ["", "!", "€"]);
  },
  "characters that reorder a line are spelt for the terminal"() {
    same(escape("user\u202etxt\u2066.\u061c\u200f"), "user\\u202etxt\\u2066.\\u061c\\u200f");
    same(escape("── שלום Ø € 漢 \x1b[31m"), "── שלום Ø € 漢 \x1b[31m");
  },
  "also in pieces, and nothing else is held back or lost"() {
    const bytes = [...encoder.encode("a\u202eb€\u061c€")];
    for (let at = 0; at <= bytes.length; at += 1)
      same(escape(bytes.slice(0, at), bytes.slice(at)), "a\\u202eb€\\u061c€");
    same(escape([0xe2, 0x80], "2>x\n", "y").replace("\ufffd", "?"), "?x\ny");
  },
  "a record is bounded, and says how much it dropped"() {
    const record = new OutputRecord(4);
    for (const text of ["abc", "de", "f"]) record.push({ bytes: encoder.encode(text), stream: "stdout" });
    record.push({ note: "lost" });
    same(
      record.pieces.map((piece) => ("bytes" in piece ? decoder.decode(piece.bytes) : piece.note)),
      ["de", "f", "lost"],
    );
    same([record.bytes, record.dropped], [3, 3]);
  },
  "plain text spells what cannot be seen"() {
    same(withoutEscapes("a\u202eb\tc\n\u200bd\x1b[2J\x1bce"), "a\\u202eb\tc\n\\u200bde");
  },
};
