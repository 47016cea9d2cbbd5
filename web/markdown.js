// A model's answer as paragraphs, lists, headings, code and emphasis: a subset of Markdown, made of elements and text
// alone. There are no links, pictures or HTML in it: an address stays text, so nothing an answer says can be followed by
// mistake or load anything.

import { h } from "./dom.js";

const MAX_ROWS = 5000; // an answer is drawn anew as it grows: what it is made of is bounded
const MAX_LINE = 20000;
const MAX_MARKS = 500; // in one row; the rest of it is plain text

/** Elements for a text. What is cut off unclosed, as while it streams, is shown as far as it goes. */
export function markdown(text) {
  const blocks = [];
  const all = text.split("\n", MAX_ROWS + 1);
  const rows = all.slice(0, MAX_ROWS).map((row) => row.length > MAX_LINE ? `${row.slice(0, MAX_LINE)} […]` : row);
  for (let at = 0; at < rows.length;) {
    const row = rows[at];
    const fence = /^\s{0,3}(```+|~~~+)/.exec(row);
    if (fence) {
      const close = new RegExp(`^\\s*${fence[1][0]}{${fence[1].length},}\\s*$`);
      const end = rows.findIndex((one, index) => index > at && close.test(one));
      const last = end < 0 ? rows.length : end;
      blocks.push(h("pre", { tabindex: "0" }, h("code", {}, rows.slice(at + 1, last).join("\n"))));
      at = last + 1;
      continue;
    }
    const heading = /^(#{1,6})\s+(\S.*)?$/s.exec(row);
    if (heading) {
      blocks.push(h(heading[1].length < 3 ? "h3" : "h4", {}, inline(heading[2] ?? "")));
      at += 1;
      continue;
    }
    const mark = /^\s*([-*+]|\d{1,9}[.)])\s+/;
    const item = mark.exec(row);
    if (item) {
      const isOrdered = /\d/.test(item[1]);
      const items = [];
      for (let found; at < rows.length && (found = mark.exec(rows[at])) && /\d/.test(found[1]) === isOrdered; at += 1) {
        items.push(h("li", {}, inline(rows[at].slice(found[0].length))));
      }
      const start = isOrdered ? Number.parseInt(item[1], 10) : null;
      blocks.push(h(isOrdered ? "ol" : "ul", start > 1 ? { start } : {}, items));
      continue;
    }
    if (!row.trim()) {
      at += 1;
      continue;
    }
    const quote = row.startsWith(">");
    const part = [];
    for (; at < rows.length && rows[at].trim() && rows[at].startsWith(">") === quote &&
         !/^(\s{0,3}(```|~~~)|#{1,6}\s)/.test(rows[at]) && !(part.length && mark.test(rows[at])); at += 1) {
      if (part.length) part.push(h("br"));
      part.push(...inline(quote ? rows[at].replace(/^>\s?/, "") : rows[at]));
    }
    blocks.push(quote ? h("blockquote", {}, part) : h("p", {}, part));
  }
  if (all.length > MAX_ROWS) blocks.push(h("p", { class: "soft" }, "[the rest is too long to show]"));
  return blocks;
}

/** Code, bold and italic inside one line; everything else is text. */
export function inline(row) {
  const found = [];
  const pattern = /(`{1,9})([^`]+)\1|\*\*([^*]+)\*\*|__([^_]+)__|\*([^*\s][^*]*)\*/g;
  let last = 0;
  for (let hit; found.length < 2 * MAX_MARKS && (hit = pattern.exec(row)) !== null;) {
    found.push(row.slice(last, hit.index));
    if (hit[2] !== undefined) found.push(h("code", {}, hit[2]));
    else if (hit[3] ?? hit[4]) found.push(h("strong", {}, hit[3] ?? hit[4]));
    else found.push(h("em", {}, hit[5]));
    last = hit.index + hit[0].length;
  }
  found.push(row.slice(last));
  return found.filter((one) => one !== "");
}
