// As much of a browser's document as dom.js needs, for tests outside a browser.

export class Node {
  constructor(name) {
    Object.assign(this, { name, attributes: {}, children: [], heard: {}, style: { setProperty: () => {} } });
  }

  setAttribute(name, value) {
    this.attributes[name] = value;
  }

  addEventListener(name, hear) {
    this.heard[name] = hear;
  }

  append(child) {
    this.children.push(child);
  }

  replaceChildren() {
    this.children = [];
  }

  get text() {
    return this.children.map((child) => (typeof child === "string" ? child : child.text)).join("");
  }
}

globalThis.Node = Node;
globalThis.document = { createElement: (name) => new Node(name), createElementNS: (space, name) => new Node(name) };

/** Elements as text in brackets: `p(a code(b))`. */
export function sketch(parts) {
  return parts.flat().map((one) => (typeof one === "string" ? one : `${one.name}(${sketch(one.children)})`)).join("");
}

/** The names of all elements. */
export function names(parts) {
  return parts.flatMap((one) => (typeof one === "string" ? [] : [one.name, ...names(one.children)]));
}
