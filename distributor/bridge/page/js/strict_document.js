/**
 * Lets xterm.js work under a Content-Security-Policy without 'unsafe-inline'.
 *
 * Its renderer writes style elements and style attributes, which such a policy refuses. The same rules put in through
 * the CSSOM (constructed style sheets, `element.style`) are permitted, because no markup can reach those. So for the
 * terminal alone, `createElement` returns elements that take the permitted way.
 */

const create = document.createElement.bind(document);

/** @type {typeof document.createElement} */
const createElement = (/** @type {string} */ name, /** @type {any} */ options) => {
  if (name === "style") return /** @type {any} */ (constructedStyle());
  const element = create(name, options);
  if (name === "span") styleAttributeByCssom(element);
  return element;
};

/** What xterm.js takes as its `documentOverride`: a document in all but how it makes elements. */
export const strictDocument = new Proxy(document, {
  get(target, name) {
    if (name === "createElement") return createElement;
    const value = Reflect.get(target, name, target);
    return typeof value === "function" ? value.bind(target) : value;
  },
});

/**
 * Runs something that makes elements with the global document, such as `Terminal.open`, which does not heed
 * `documentOverride` everywhere. Synchronous: nobody else makes elements meanwhile.
 * @param {() => void} action
 */
export function withStrictDocument(action) {
  document.createElement = createElement;
  try {
    action();
  } finally {
    delete (/** @type {any} */ (document).createElement);
  }
}

/** Looks like a style element to who fills and removes it; its rules live in a constructed style sheet. */
function constructedStyle() {
  const sheet = new CSSStyleSheet();
  document.adoptedStyleSheets.push(sheet);
  return Object.defineProperties(create("template"), {
    textContent: { set: (/** @type {string} */ rules) => sheet.replaceSync(rules) },
    remove: {
      value() {
        document.adoptedStyleSheets = document.adoptedStyleSheets.filter((other) => other !== sheet);
        Element.prototype.remove.call(this);
      },
    },
  });
}

/** @param {HTMLElement} element */
function styleAttributeByCssom(element) {
  element.setAttribute = (name, value) => {
    if (name === "style") element.style.cssText = value;
    else Element.prototype.setAttribute.call(element, name, value);
  };
}
