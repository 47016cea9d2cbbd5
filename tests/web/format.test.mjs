// Figures: the cases of base/units.py, from the same file.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { bytes, count, fixed, layers, rate, seconds, short, when } from "../../web/format.js";

const cases = JSON.parse(readFileSync(new URL("../base/units.json", import.meta.url), "utf8"));

for (const [name, write] of [["bytes", bytes], ["seconds", seconds]]) {
  test(`${name} are written as Python writes them`, () => {
    for (const [value, text] of cases[name]) assert.equal(write(value), text, `${value}`);
  });
}

const given = process.env.FIGURES; // a file of more cases, as test_node.py makes them

test("numbers are written as Python writes them", { skip: !given }, () => {
  const figures = JSON.parse(readFileSync(given, "utf8"));
  assert.ok(figures.length > 1000);
  for (const [value, digits, text] of figures) assert.equal(fixed(value, digits), text, `${value}`);
});

test("what is unknown is said, and never a number", () => {
  assert.deepEqual([count(null), when(null), rate(undefined), short(null)], ["unknown", "never", null, ""]);
  assert.deepEqual([rate(null), rate(9e15 / 5e-324), rate(0 / 0)], [null, null, null]);
});

test("rates, counts, layers and times are written for people", () => {
  assert.deepEqual([rate(12.25), count(1234567), layers([0, 12])], ["12.2 tokens/s", "1,234,567", "[0, 12)"]);
  assert.equal(when(new Date(2026, 0, 2, 3, 4, 5).getTime() / 1000), "2026-01-02 03:04:05");
  assert.deepEqual([short("0123456789abcdef"), short("abc")], ["0123456789ab", "abc"]);
});
