/**
 * Minimal virtual DOM: views return element descriptions and `render` patches the document to match. Text only ever
 * becomes text nodes; there is no way to pass HTML.
 *
 * @typedef {string | number | false | null | undefined | Element_ | any[]} Child
 * @typedef {{tag: string, key: unknown, props: Props, children: Described[], mount?: Mount, node?: Node}} Element_
 * @typedef {Record<string, any>} Props  attributes; `on…` are listeners, `key` identifies it among siblings
 * @typedef {{text: string, key?: undefined, node?: Text}} Words
 * @typedef {Element_ | Words} Described
 * @typedef {(element: HTMLElement) => () => void} Mount  fills an element and returns its cleanup
 */

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(["svg", "path", "g", "rect", "circle", "line", "title"]);
const PROPERTIES = new Set(["value", "checked", "disabled", "selected", "hidden", "open", "className", "htmlFor"]);

/** @type {WeakMap<Element, Described[]>} */
const rendered = new WeakMap();

/** @type {WeakMap<Node, () => void>} */
const mountCleanups = new WeakMap();

/** Islands to mount once they are in the document and can measure themselves. @type {(() => void)[]} */
let pendingMounts = [];

/**
 * Describes an element.
 * @param {string} tag
 * @param {Props | null} [props]
 * @param {...Child} children
 * @returns {Element_}
 */
export function h(tag, props, ...children) {
  return { tag, key: props?.key, props: props ?? {}, children: described(children) };
}

/**
 * Describes an element whose content other code manages, such as a terminal. It is mounted once and left alone while
 * its key stays the same.
 * @param {unknown} key
 * @param {Mount} mount
 * @param {Props} [props]
 * @returns {Element_}
 */
export function island(key, mount, props = {}) {
  return { tag: "div", key, props, children: [], mount };
}

/**
 * Patches the children of an element to match a description.
 * @param {Element} container
 * @param {...Child} children
 */
export function render(container, ...children) {
  const next = described(children);
  patchChildren(container, rendered.get(container) ?? [], next);
  rendered.set(container, next);
  const mounts = pendingMounts;
  pendingMounts = [];
  for (const mount of mounts) mount();
}

/** @param {Child[]} children @returns {Described[]} */
function described(children) {
  /** @type {Described[]} */
  const flat = [];
  for (const child of children) {
    if (Array.isArray(child)) flat.push(...described(child));
    else if (child === null || child === undefined || child === false || child === "") continue;
    else if (typeof child === "object") flat.push(child);
    else flat.push({ text: String(child) });
  }
  return flat;
}

/** @param {Described} one @param {Described} other */
function same(one, other) {
  if ("text" in one || "text" in other) return "text" in one && "text" in other;
  return one.tag === other.tag && one.key === other.key && !one.mount === !other.mount;
}

/** @param {Element} parent @param {Described[]} before @param {Described[]} after */
function patchChildren(parent, before, after) {
  const keyed = new Map(before.filter((child) => child.key !== undefined).map((child) => [child.key, child]));
  const unkeyed = before.filter((child) => child.key === undefined);
  const kept = new Set();
  for (const child of after) {
    const old = child.key === undefined ? unkeyed.find((it) => !kept.has(it) && same(it, child)) : keyed.get(child.key);
    if (old && !kept.has(old) && same(old, child)) {
      kept.add(old);
      patch(old, child);
    } else create(child);
  }
  for (const old of before) if (!kept.has(old)) remove(old);
  /** @type {Node | null} */
  let place = parent.firstChild;
  for (const child of after) {
    const node = /** @type {Node} */ (child.node);
    if (node === place) place = place.nextSibling;
    else parent.insertBefore(node, place);
  }
}

/** @param {Described} old @param {Described} next */
function patch(old, next) {
  next.node = old.node;
  if ("text" in next) {
    if (/** @type {Words} */ (old).text !== next.text) /** @type {Text} */ (next.node).data = next.text;
    return;
  }
  const before = /** @type {Element_} */ (old);
  const element = /** @type {HTMLElement} */ (next.node);
  for (const name in before.props) if (!(name in next.props)) setProp(element, name, undefined);
  for (const name in next.props) {
    if (before.props[name] !== next.props[name]) setProp(element, name, next.props[name]);
  }
  if (!next.mount) patchChildren(element, before.children, next.children);
}

/** @param {Described} description */
function create(description) {
  if ("text" in description) {
    description.node = document.createTextNode(description.text);
    return;
  }
  const element = SVG_TAGS.has(description.tag)
    ? document.createElementNS(SVG, description.tag)
    : document.createElement(description.tag);
  description.node = element;
  patchChildren(element, [], description.children);
  // After the children: a select accepts a value only once the option exists.
  for (const name in description.props) setProp(/** @type {HTMLElement} */ (element), name, description.props[name]);
  const { mount } = description;
  if (mount) pendingMounts.push(() => mountCleanups.set(element, mount(/** @type {HTMLElement} */ (element))));
}

/** @param {Described} description */
function remove(description) {
  forget(description);
  /** @type {ChildNode} */ (description.node).remove();
}

/** @param {Described} description */
function forget(description) {
  if ("text" in description) return;
  mountCleanups.get(/** @type {Node} */ (description.node))?.();
  description.children.forEach(forget);
}

/** @param {HTMLElement} element @param {string} name @param {any} value */
function setProp(element, name, value) {
  if (name === "key") return;
  if (name.startsWith("on")) /** @type {any} */ (element)[name.toLowerCase()] = value ?? null;
  else if (PROPERTIES.has(name)) /** @type {any} */ (element)[name] = value ?? "";
  else if (value === undefined || value === null || value === false) element.removeAttribute(name);
  else element.setAttribute(name, value === true ? "" : String(value));
}
