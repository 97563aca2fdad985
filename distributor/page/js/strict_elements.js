/**
 * Makes xterm.js work under a Content-Security-Policy without 'unsafe-inline'.
 *
 * Its renderer writes style elements and style attributes, which such a policy blocks. The CSSOM (constructed style
 * sheets, `element.style`) is permitted, so `createElement` returns elements that apply the same rules through it. The
 * function is replaced for the whole page: xterm.js has a `documentOverride`, but its rows and viewport use the global
 * document.
 */

const create = document.createElement.bind(document);

/** Replaces `document.createElement`. Idempotent. */
export function makeElementsStrict() {
  document.createElement = createElement;
}

/** @type {typeof document.createElement} */
const createElement = (/** @type {string} */ name, /** @type {any} */ options) => {
  if (name === "style") return /** @type {any} */ (constructedStyle());
  const element = create(name, options);
  // Only spans, which rows consist of: thousands of elements are created.
  if (name === "span") setStyleByCssom(element);
  return element;
};

/** Stands in for a style element; its rules go to a constructed style sheet. */
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
function setStyleByCssom(element) {
  element.setAttribute = (name, value) => {
    if (name === "style") element.style.cssText = value;
    else Element.prototype.setAttribute.call(element, name, value);
  };
}
