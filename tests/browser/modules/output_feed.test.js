import { OutputFeed } from "/js/output_feed.js";
import { same } from "./check.js";

const output = (offset, data, more = {}) => ({ type: "terminal:output", stream: "stdout", offset, data, ...more });
const gap = (begin, end, reason) => ({ type: "gap", beginOffset: begin, endOffset: end, reason });

/** What is shown of some messages, as text. */
function shown(feed, ...messages) {
  return messages
    .flatMap((message) => feed.accept(message))
    .map((step) => ("bytes" in step ? new TextDecoder().decode(step.bytes) : step));
}

export const tests = {
  "pieces follow one another"() {
    const feed = new OutputFeed("c");
    same(shown(feed, output(0, "one\n"), output(4, "two\n", { stream: "stderr" })), ["one\n", "two\n"]);
    same([feed.next, feed.received], [8, { stdout: 4, stderr: 4 }]);
  },
  "what comes again is shown once"() {
    const feed = new OutputFeed("c");
    same(shown(feed, output(0, "abc"), output(0, "abc"), output(1, "bcdef"), output(2, "cd")), ["abc", "def"]);
  },
  "offsets count bytes, not characters"() {
    const feed = new OutputFeed("c");
    same(shown(feed, output(0, "é"), output(2, "x"), output(0, "éxy")), ["é", "x", "y"]);
  },
  "bytes that are no text are kept exact"() {
    const [step] = new OutputFeed("c").accept(output(0, btoa("\xff\x00\x80"), { encoding: "base64" }));
    same(step.bytes, new Uint8Array([0xff, 0, 0x80]));
  },
  "what is no longer kept is told with its size, once"() {
    const feed = new OutputFeed("c");
    const lost = { note: "2.0 KiB of output no longer stored" };
    same(shown(feed, gap(0, 2048, "not_kept"), gap(0, 2048, "not_kept"), output(2048, "rest")), [lost, "rest"]);
    same(feed.missing, 2048);
  },
  "what was cut because we were slow is asked for again"() {
    const feed = new OutputFeed("c");
    same(shown(feed, output(0, "ab"), gap(2, 6, "slow"), output(6, "too early")), ["ab", { again: 2 }]);
    same(shown(feed, output(2, "cdef"), output(6, "rest")), ["cdef", "rest"]);
    same(feed.missing, 0);
  },
};
