// An answer's Markdown: what it makes, and that nothing else can come of it.

import assert from "node:assert/strict";
import { test } from "node:test";

import { names, sketch } from "./stand.mjs"; // first: dom.js looks for a document

const { inline, markdown } = await import("../../web/markdown.js");
const made = (text) => sketch(markdown(text));

test("paragraphs, headings, lists, quotes, code and emphasis", () => {
  assert.equal(made("# One\n\ntwo\nthree"), "h3(One)p(twobr()three)");
  assert.equal(made("### One"), "h4(One)");
  assert.equal(made("- a\n- b **c**\n1. d"), "ul(li(a)li(b strong(c)))ol(li(d))");
  assert.equal(made("> a\n> b"), "blockquote(abr()b)");
  assert.equal(made("`a` *b* __c__ ``d``"), "p(code(a) em(b) strong(c) code(d))");
  assert.equal(markdown("3. a")[0].attributes.start, "3");
});

test("fenced code is kept as it is, and an unclosed fence is shown as far as it goes", () => {
  assert.equal(made("```js\n**a**\n# b\n```\nc"), "pre(code(**a**\n# b))p(c)");
  assert.equal(made("a\n~~~\n<b>"), "p(a)pre(code(<b>))");
  assert.equal(made("````\n```\n````"), "pre(code(```))");
  assert.equal(made("```\na\n``` b\n  ```` \nc"), "pre(code(a\n``` b))p(c)"); // words after a fence: it closes nothing
});

test("a heading with another sort of line's end in it is one, and no row is looked at for ever", { timeout: 20000 }, () => {
  assert.equal(made("# a\rb\n## c\u2028d\n#  \n"), "h3(a\rb)h3(c\u2028d)h3()");
  const slow = `#${" ".repeat(10000)}${"x".repeat(9000)}\u2028y\n`;
  const began = performance.now();
  markdown(slow.repeat(10));
  assert.ok(performance.now() - began < 500);
});

test("links, pictures and HTML stay text", () => {
  const hostile = "<script>x</script> <img src=x onerror=y> [a](javascript:b) ![c](http://d/e) <http://f>";
  assert.equal(made(hostile), `p(${hostile})`);
});

test("marks that reorder or hide text are made visible", () => {
  assert.equal(made("a\u202eb\u200bc"), "p(a⟨U+202E⟩b⟨U+200B⟩c)");
});

test("no text of any kind makes other elements, is lost between the lines, or takes long", () => {
  const allowed = new Set(["p", "br", "h3", "h4", "ul", "ol", "li", "pre", "code", "strong", "em", "blockquote"]);
  const parts = ["#", "# ", "-", "- ", "1. ", "> ", "`", "```", "~~~", "*", "**", "_", "__", "\n", " ", "<a>", "word", "[x](y)"];
  let seed = 7;
  const next = (most) => { seed = (seed * 1103515245 + 12345) % 2147483648; return seed % most; };
  for (let round = 0; round < 3000; round += 1) {
    const text = Array.from({ length: next(24) }, () => parts[next(parts.length)]).join("");
    const blocks = markdown(text);
    assert.ok(names(blocks).every((name) => allowed.has(name)), text);
    const words = (text.match(/word/g) ?? []).length;
    const shown = (sketch(blocks).match(/word/g) ?? []).length;
    if (!/```|~~~/.test(text)) assert.equal(shown, words, JSON.stringify(text)); // words beside a fence name its language
  }
});

test("a megabyte in one line, and a hundred thousand lines, are cut and cost little", () => {
  const before = process.cpuUsage(); // what it took of a processor, whatever else that does
  assert.ok(sketch(markdown("a".repeat(1_000_000))).length < 21000);
  for (const text of ["a\n", "a\n\n", "- a\n", "> a\n", "```\n~~~\n"].map((one) => one.repeat(100_000))) {
    const made = markdown(text);
    assert.ok(names(made).length < 11000, text.slice(0, 9));
    assert.equal(made.at(-1).text, "[the rest is too long to show]");
  }
  assert.ok(names(inline("*a*".repeat(6000))).length <= 500);
  assert.equal(sketch(inline("*a*".repeat(600))).replaceAll("em(a)", "*a*"), "*a*".repeat(600));
  for (const mark of ["`", "*", "_", "**a", "- ", "> ", "#", "`a*", "1. "]) {
    inline(mark.repeat(10_000));
    markdown(mark.repeat(200_000));
    markdown(`${mark}\n`.repeat(50_000));
  }
  const { user, system } = process.cpuUsage(before);
  assert.ok(user + system < 3_000_000, `${user + system} µs`);
});
