import { LineMarker } from "/js/line_marker.js";
import { same } from "./check.js";

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** What is shown of pieces, `2>` before those of stderr, with `#` for the mark. */
function shown(...pieces) {
  const marker = new LineMarker(encoder.encode("#"));
  return pieces
    .map((piece) => {
      const stream = piece.startsWith("2>") ? "stderr" : "stdout";
      return decoder.decode(marker.marked(encoder.encode(piece.replace("2>", "")), stream));
    })
    .join("");
}

export const tests = {
  "each line of stderr is marked, those of stdout are not"() {
    same(shown("out\n", "2>one\ntwo\n", "out\n"), "out\n#one\n#two\nout\n");
  },
  "a line in pieces is marked once, and not in its middle"() {
    same(shown("2>o", "2>ne\nt", "2>wo"), "#one\n#two");
    same(shown("out ", "2>and err\n", "2>err\n"), "out and err\n#err\n");
  },
  "empty lines and lines that are written over have no mark of their own"() {
    same(shown("2>\n\r\n\nx\r\ny\rz"), "\n\r\n\n#x\r\n#y\rz");
    same(shown("2>\n", "2>\r", "2>x"), "\n\r#x");
    same(shown("2>", "2>x"), "#x");
  },
  "escape sequences stay whole"() {
    same(shown("2>\x1b[3", "2>1mred\x1b[0m\n"), "#\x1b[31mred\x1b[0m\n");
  },
};
