// Builds the page out of elements and text. No text ever becomes HTML here, whoever wrote it.

const SVG = "http://www.w3.org/2000/svg";

/** An element: attributes, `on...` handlers, properties (`value`, `checked`, ...), and children (elements, texts, lists). */
export function h(name, attributes = {}, ...children) {
  return build(document.createElement(name), attributes, children);
}

/** The same for SVG. */
export function s(name, attributes = {}, ...children) {
  return build(document.createElementNS(SVG, name), attributes, children);
}

const PROPERTIES = new Set(["value", "checked", "disabled", "open", "selected", "indeterminate"]);
const READ = new Set(["aria-label", "title", "alt", "placeholder", "label"]); // attributes that people are shown or read out

function build(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false && !PROPERTIES.has(name)) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (PROPERTIES.has(name)) element[name] = value;
    else if (name === "width%") element.style.setProperty("width", `${value}%`);
    else element.setAttribute(name, value === true ? "" : READ.has(name) ? visible(String(value)) : String(value));
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : visible(String(child)));
  }
}

// Marks of direction, and what is drawn as nothing; but for line ends, tabs, and what joins letters and emoji.
const HIDDEN = /[\0-\x08\v\f\x0e-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0d\ufeff\uffa0\ufff9-\ufffb\u{1bca0}-\u{1bca3}\u{1d173}-\u{1d17a}\u{e0000}-\u{e0fff}]/gu;

/** Text with the marks that reorder or hide other text made visible: a name must not read as another. */
export function visible(text) {
  return text.replace(HIDDEN, (mark) => `⟨U+${mark.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);
}

/** Ask in a box of the browser's own, which no name in the text may turn into another question: it has one line. */
export function sure(text) {
  return confirm(visible(text.replace(/[\t\n\r\u2028\u2029 ]+/g, " ")));
}

/** Put these in the place of all that an element holds. */
export function fill(element, ...children) {
  const refocus = focusIn(element);
  element.replaceChildren();
  append(element, children);
  refocus();
  return element;
}

/** Run what it gives when an element's parts are others. If the focus was there, it goes to the one thing that is called the same,
 * never to what is only like it, for the next press of a key would mean another; or else to the element, or what it is in. */
function focusIn(holder, mayFind = true) {
  const had = document.activeElement;
  if (!had || had === holder || !holder.contains(had)) return () => {};
  const nameOf = (one) => one.getAttribute("aria-label") ?? one.labels?.[0]?.textContent ?? one.textContent;
  const name = nameOf(had);
  const same = () => [...holder.querySelectorAll(had.tagName)].filter((one) => nameOf(one) === name);
  const wasOne = mayFind && same().length === 1;
  return () => {
    if (had.isConnected) return;
    if (wasOne && same().length === 1) same()[0].focus({ preventScroll: true });
    for (let at = holder; at && document.activeElement === document.body; at = at.parentElement) {
      if (!at.hasAttribute("tabindex")) at.tabIndex = -1;
      at.focus({ preventScroll: true });
    }
  };
}

/** Build anew only where the data changed, so that focus, selection and scrolling stay. */
export function onChange(element, draw) {
  let seen;
  return (value) => {
    const text = JSON.stringify(value);
    if (text === seen) return;
    seen = text;
    fill(element, draw(value));
  };
}

/** A list whose parts stay the same elements while their data changes, so that what a person opens, types or is about to
 * press stays, too. `keyOf` an item names it; `make` gives `{element, update(item)}` for a new one. */
export function each(element, keyOf, make) {
  const kept = new Map();
  return (items) => {
    const keys = new Set(items.map(keyOf));
    const refocus = focusIn(element, false);
    for (const [key, one] of kept) {
      if (keys.has(key)) continue;
      one.element.remove();
      kept.delete(key);
    }
    items.forEach((item, index) => {
      const key = keyOf(item);
      if (!kept.has(key)) kept.set(key, make(item));
      const one = kept.get(key);
      if (element.children[index] !== one.element) element.insertBefore(one.element, element.children[index] ?? null);
      one.update?.(item);
    });
    refocus();
  };
}

/** A field with its label. */
export function field(label, input, more = {}) {
  return h("label", more, h("span", {}, label), input);
}

/** A badge; `kind` is a class of it. */
export function badge(text, kind = "", title = null) {
  return h("span", { class: `badge ${kind}`, title }, text);
}

/** A table that folds into blocks on a phone. `rows`: lists of cells. */
export function table(heads, rows, caption = null) {
  return h("div", { class: "table", tabindex: "0", role: "region", "aria-label": caption ?? heads.join(", ") },
    h("table", { class: "folds" },
      h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, head)))),
      h("tbody", {}, rows.map((cells) => h("tr", {}, cells.map((cell, index) =>
        h("td", { "data-label": heads[index] }, h("span", {}, cell))))))));
}

/** Pairs of names and values; pairs without a value are left out. */
export function facts(pairs) {
  return h("dl", { class: "facts" },
    pairs.filter(([, value]) => value !== null && value !== undefined && value !== "")
      .map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

/** Tell the person something: for a while, or, where it is bad, until it is closed. */
export function notice(text, isBad = false) {
  let from = null; // where the focus was before it came here
  const close = () => {
    const hadFocus = box.contains(document.activeElement);
    box.remove();
    if (hadFocus) (from?.isConnected ? from : document.getElementById("main"))?.focus();
  };
  const box = h("div", { class: isBad ? "bad" : "", role: isBad ? "alert" : null, onfocusin: (event) => { from = event.relatedTarget; } },
    h("span", {}, text), h("button", { type: "button", class: "plain", "aria-label": "Close this notice", onclick: close }, "×"));
  const holder = document.getElementById("notices");
  holder.prepend(box);
  while (holder.children.length > 4) holder.lastChild.remove();
  const fade = () => (box.matches(":hover, :focus-within") ? setTimeout(fade, 2000) : close());
  if (!isBad) setTimeout(fade, 6000);
}

/** A button whose click may take a while and may fail: it waits, and tells what went wrong. */
export function action(label, act, kind = "", more = {}) {
  const button = h("button", { type: "button", class: kind, ...more, onclick: async () => {
    if (button.ariaDisabled) return; // not `disabled`: that would take the focus away
    button.ariaDisabled = "true";
    try {
      await act();
    } catch (error) {
      complain(error);
    } finally {
      button.ariaDisabled = null;
    }
  } }, label);
  return button;
}

/** What happened and what to do, as sentences of their own. */
export function sentences(message, hint) {
  return hint ? `${message}${/[.!?…]$/.test(message) ? "" : "."} ${hint}` : message;
}

/** Show an error as the person can use it. */
export function complain(error) {
  notice(`${sentences(error.message, error.hint)}${error.code ? ` (${error.code})` : ""}`, true);
}

/** A form that is sent once at a time and tells what went wrong. */
export function form(attributes, onSend, ...children) {
  let isSending = false;
  const element = h("form", { ...attributes, onsubmit: async (event) => {
    event.preventDefault();
    if (isSending) return;
    isSending = true;
    const buttons = [...element.querySelectorAll("button")];
    buttons.forEach((one) => { one.ariaDisabled = "true"; });
    try {
      await onSend(element);
    } catch (error) {
      complain(error);
    } finally {
      isSending = false;
      buttons.forEach((one) => { one.ariaDisabled = null; });
    }
  } }, ...children);
  return element;
}
