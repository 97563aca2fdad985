import { render } from "/js/dom.js";
import { isObject, parseDocument, parseExactly } from "/js/exact_json.js";
import { foreign, foreignJson, visible, visibleJson } from "/js/foreign_text.js";
import { same, throws } from "./check.js";

/** What cannot be seen, and how it is spelt. */
const INVISIBLE = [
  ["\0", "\\x00"],
  ["\x1b", "\\x1b"],
  ["\n", "\\n"],
  ["\r", "\\r"],
  ["\t", "\\t"],
  ["\x7f", "\\x7f"],
  ["\x9b", "\\x9b"],
  ["\xa0", "\\xa0"],
  ["\xad", "\\xad"],
  ["\u061c", "\\u061c"],
  ["\u200b", "\\u200b"],
  ["\u200e", "\\u200e"],
  ["\u2028", "\\u2028"],
  ["\u202e", "\\u202e"],
  ["\u2066", "\\u2066"],
  ["\u3164", "\\u3164"],
  ["\ufeff", "\\ufeff"],
  ["\ud800", "\\ud800"],
  ["\ue000", "\\ue000"],
  ["\u{e0041}", "\\U000e0041"],
];

const NUMBERS = [
  "9007199254740991",
  "9007199254740993",
  "-9007199254740993",
  "1e21",
  "1e400",
  "-0",
  "-0.0",
  "1.0",
  "0.1000000000000000055511151231257827",
  "123456789012345678901234567890",
];

export const tests = {
  "what cannot be seen is spelt"() {
    for (const [char, spelt] of INVISIBLE) same(visible(`a${char}b`), `a${spelt}b`);
    same(visible("ordinary text, Grüße, 漢字, עברית, 👍🏽"), "ordinary text, Grüße, 漢字, עברית, 👍🏽");
  },
  "foreign text is isolated, and its escapes are set apart"() {
    const container = document.createElement("div");
    render(container, foreign("user\u202etxt \\u202e <b>"));
    same(
      container.innerHTML,
      '<bdi>user<span class="escape">\\u202e</span>txt \\u202e &lt;b&gt;</bdi>',
    );
  },
  "a JSON value is spelt so that it reads back as the same"() {
    for (const [char] of INVISIBLE) {
      const text = visibleJson({ [char]: [char] });
      same(JSON.parse(text), { [char]: [char] });
      same(/[^\n\x20-\x7e]/.test(text), false);
    }
    same(visibleJson(undefined), "null");
  },
  "texts in JSON that may be written from right to left are isolated"() {
    const container = document.createElement("div");
    render(container, foreignJson({ a: "ab\"c", "אב": ["גד", 1, "\u202e"] }));
    same(container.textContent, visibleJson({ a: "ab\"c", "אב": ["גד", 1, "\u202e"] }));
    same(
      [...container.querySelectorAll("bdi")].map((bdi) => bdi.textContent),
      ['"אב"', '"גד"'],
    );
  },
  "numbers are kept as they are spelt"() {
    for (const number of NUMBERS) {
      const text = `{"a":[${number}]}`;
      same(JSON.stringify(parseExactly(text)) === text, true);
    }
  },
  "other values are what JSON.parse makes of them"() {
    const text = '{"a":[1,2.5,true,null,"9007199254740993"],"b":{"__proto__":{"c":-1}}}';
    same(parseExactly(text), JSON.parse(text));
    same(Object.keys(parseExactly('{"__proto__":1}')), ["__proto__"]);
    throws(() => parseExactly("{"), "JSON");
  },
  "the bridge's numbers are numbers, those of others stay as they are spelt"() {
    const text = '{"timeLimitSeconds":300.0,"command":{"list":[{"n":1e3}],"params":{"n":[1.0]}},"result":{"data":-0}}';
    const { timeLimitSeconds, command, result } = parseDocument(text);
    same([timeLimitSeconds, command.list[0].n], [300, 1000]);
    same([JSON.stringify(command.params), JSON.stringify(result.data)], ['{"n":[1.0]}', "-0"]);
  },
  "an object is one with fields"() {
    same(["{}", '{"a":1}', "[]", "1e400", "1", "null", '"a"'].map((text) => isObject(parseExactly(text))), [
      true,
      true,
      ...Array(5).fill(false),
    ]);
  },
};
