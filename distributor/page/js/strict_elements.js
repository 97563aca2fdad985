/**
 * Lets xterm.js work under a Content-Security-Policy without 'unsafe-inline'.
 *
 * Its renderer writes style elements and style attributes, which such a policy refuses. The same rules put in through
 * the CSSOM (constructed style sheets, `element.style`) are permitted, because no markup can reach those. So
 * `createElement` hands out elements that take the permitted way. It does so for the whole page: xterm.js has a
 * `documentOverride`, but its rows and its viewport use the global document all the same.
 */

const create = document.createElement.bind(document);

/** From now on. Does nothing the second time. */
export function makeElementsStrict() {
  document.createElement = createElement;
}

/** @type {typeof document.createElement} */
const createElement = (/** @type {string} */ name, /** @type {any} */ options) => {
  if (name === "style") return /** @type {any} */ (constructedStyle());
  const element = create(name, options);
  // Only spans: they are what a row is made of, and elements are made by the thousand.
  if (name === "span") setStyleByCssom(element);
  return element;
};

/** Behaves like a style element when filled or removed; its rules live in a constructed style sheet. */
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
