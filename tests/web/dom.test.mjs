// What names look like where they are shown and asked about.

import assert from "node:assert/strict";
import { test } from "node:test";

import "./stand.mjs";

const { sure, visible } = await import("../../web/dom.js");

test("what is drawn as nothing is seen", () => {
  for (const mark of ["\u200b", "\u202e", "\u17b4", "\ufe01", "\u{1d173}", "\u{1bca0}", "\u{e0041}"]) {
    assert.match(visible(`ad${mark}min`), /^ad⟨U\+[0-9A-F]+⟩min$/u);
  }
  for (const whole of ["a\nb\tc", "👨\u200d👩", "❤\ufe0f", "می\u200cخواهم"]) assert.equal(visible(whole), whole);
});

test("no name makes another question of the one that is asked", () => {
  const asked = [];
  globalThis.confirm = (text) => asked.push(text);
  sure("Forget x?\n\n\r\u2028OK keeps it.\t\u202e Or not?");
  assert.deepEqual(asked, ["Forget x? OK keeps it. ⟨U+202E⟩ Or not?"]);
});
