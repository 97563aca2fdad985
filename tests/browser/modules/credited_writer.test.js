import { CreditedWriter } from "/js/credited_writer.js";
import { same } from "./check.js";

/** A writer whose sink says it is done when told to. */
function slow(limit) {
  const written = [];
  const waiting = [];
  const mark = (dropped) => new TextEncoder().encode(`(${dropped} dropped)`);
  const writer = new CreditedWriter(
    (bytes, done) => {
      written.push(new TextDecoder().decode(bytes));
      waiting.push(done);
    },
    mark,
    limit,
  );
  return { writer, written, done: () => waiting.shift()() };
}

const bytes = (text) => new TextEncoder().encode(text);

export const tests = {
  "the next piece waits until the one before is done"() {
    const { writer, written, done } = slow();
    for (const text of ["a", "b", "c"]) writer.push(bytes(text));
    same(written, ["a"]);
    done();
    same(written, ["a", "b"]);
    done();
    done();
    same(written, ["a", "b", "c"]);
  },
  async "idle is when all was taken"() {
    const { writer, done } = slow();
    const seen = [];
    for (const text of ["a", "b"]) writer.push(bytes(text));
    const idle = writer.idle().then(() => seen.push("idle"));
    done();
    await Promise.resolve();
    same(seen, []);
    done();
    await idle;
    await writer.idle();
    same(seen, ["idle"]);
  },
  "large pieces are split"() {
    const { writer, written, done } = slow();
    writer.push(bytes("x".repeat(70_000)));
    done();
    done();
    same(
      written.map((text) => text.length),
      [32_768, 32_768, 4_464],
    );
  },
  "beyond the limit the oldest is dropped and its size is told"() {
    const { writer, written, done } = slow(10);
    for (const text of ["first", "12345678", "abcdefgh"]) writer.push(bytes(text));
    same(writer.queuedBytes, 8);
    done();
    done();
    same(written, ["first", "(8 dropped)", "abcdefgh"]);
  },
};
