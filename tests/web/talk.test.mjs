// A chat's turns: what goes to the node, and what its events make of them.

import assert from "node:assert/strict";
import { test } from "node:test";

import { answerOf, labelsOf, take, turnsBefore } from "../../web/talk.js";

const fresh = () => ({ role: "assistant", text: "", steps: [], isOpen: true });
const filled = (events) => events.reduce((turn, event) => (take(turn, event), turn), fresh());

test("files go along fenced, with a fence that they cannot close", () => {
  const file = { name: 'a "b".md', text: "```\nrm -rf\n````" };
  const [message] = turnsBefore([{ role: "user", text: "Look", files: [file] }]);
  assert.equal(message.content, 'Look\n\nFile "a \\"b\\".md":\n`````\n```\nrm -rf\n````\n`````');
});

test("a file of very many backticks goes along, too", () => {
  const [message] = turnsBefore([{ role: "user", text: "Look", files: [{ name: "a", text: "` ".repeat(300_000) }] }]);
  assert.ok(message.content.endsWith("\n```"));
});

test("the words of a run that was stopped or broke off stay here: nobody has said which labels they carry", () => {
  const said = [{ event: "run", id: "run1" }, { event: "text", text: "The diagnosis is" }];
  const broken = Object.assign(filled(said), { agent: "helper" });
  const asked = { role: "user", text: "and?" };
  assert.deepEqual(turnsBefore([broken, asked]), [{ role: "user", content: "and?" }]);
  take(broken, { event: "end", end: "cancelled", message: "stopped", answer: "The diagnosis is", labels: ["private"] });
  assert.equal(turnsBefore([broken, asked]).length, 2);
  assert.deepEqual(labelsOf([broken, asked], ""), ["private"]);
});

test("what the model said with no words is left out, and old turns are cut", () => {
  assert.deepEqual(turnsBefore([{ role: "user", text: "a" }, fresh()]), [{ role: "user", content: "a" }]);
  const many = Array.from({ length: 200 }, (_, index) => ({ role: "user", text: `${index}` }));
  const sent = turnsBefore(many);
  assert.deepEqual([sent.length, sent.at(-1).content], [65, "199"]);
});

test("a streamed answer grows, and keeps its receipt, where it ran and how it ended", () => {
  const turn = filled([
    { headers: { "x-mycoswarm-receipt": "r1", "x-mycoswarm-ran": "LAN" } },
    { choices: [{ delta: { content: "Hel" }, finish_reason: null }] },
    { choices: [{ delta: { content: "lo" }, finish_reason: "stop" }], mycoswarm: { rule: "any", receipt: "r2" } },
    { choices: [], usage: { prompt_tokens: 3, completion_tokens: 2 } },
  ]);
  assert.deepEqual([turn.text, turn.receipt, turn.ran, turn.end, turn.about.rule], ["Hello", "r2", "LAN", "stop", "any"]);
  assert.equal(answerOf(turn), "3 read, 2 written");
  assert.equal(answerOf(fresh()), null);
});

test("an error of the node stays beside what was said", () => {
  const turn = filled([{ choices: [{ delta: { content: "Hel" } }] }, { error: { message: "lost", code: "node_lost" } }]);
  assert.deepEqual([turn.text, turn.error.code], ["Hel", "node_lost"]);
});

test("an answer without end is not kept without end", () => {
  const turn = fresh();
  for (let index = 0; index < 40; index += 1) take(turn, { choices: [{ delta: { content: "x".repeat(10000) } }] });
  assert.ok(turn.text.length <= 210000);
});

test("an agent's run: its calls with results, its nodes, its end", () => {
  const turn = filled([
    { event: "run", id: "run1" },
    { event: "heard", nodes: ["a"], rule: "any", receipt: "r1" },
    { event: "text", text: "I look" },
    { event: "call", id: "c0", tool: "calculator", arguments: "{}" },
    { event: "result", id: "c0", tool: "calculator", ok: true, text: "42", node: "b", seconds: 0.1 },
    { event: "heard", nodes: ["a", "c"], rule: "any", receipt: "r2" },
    { event: "text", text: "It is 42" },
    { event: "end", end: "answer", answer: "It is 42.", labels: ["private"], prompt_tokens: 5, completion_tokens: 6 },
  ]);
  assert.deepEqual([turn.run, turn.nodes, turn.receipt, turn.text, turn.labels], ["run1", ["a", "c"], "r2", "It is 42.", ["private"]]);
  const [step] = turn.steps;
  assert.deepEqual([step.text, step.node, step.ok, step.isOpen, turn.error], ["42", "b", true, false, undefined]);
});

test("a run has been as far as the furthest of its steps, its calls and its sub-agents", () => {
  const heard = (receipt, ran) => ({ event: "heard", nodes: ["a"], rule: "any", receipt, ran });
  const turn = filled([
    { headers: { "x-mycoswarm-run": "run1" } }, heard("r1", "LAN"), { event: "tokens", step: 1, tokens_per_s: 12.5 },
    { event: "sub_agent", name: "scout", agent: "1", told: heard("r2", "this-machine") },
    { event: "sub_agent", name: "scout", agent: "1", told: { event: "tokens", step: 1, tokens_per_s: null } },
  ]);
  assert.equal(turn.ran, "LAN");
  assert.deepEqual(turn.asked.map((one) => [one.agent, one.receipt, one.ran, one.speed]),
    [["", "r1", "LAN", 12.5], ["scout 1", "r2", "this-machine", null]]);
  take(turn, { event: "call", id: "c0", tool: "fetch_page", arguments: "{}" });
  take(turn, { event: "result", id: "c0", tool: "fetch_page", ok: true, text: "", node: "b", ran: "outside", seconds: 1 });
  assert.deepEqual([turn.ran, turn.steps[0].ran], ["outside", "outside"]);
  take(turn, heard("r3", undefined));
  take(turn, { event: "end", end: "answer", answer: "", tokens_per_s: 11 });
  assert.deepEqual([turn.ran, turn.speed], ["outside", 11]);
});

test("a sub-agent's words are not its parent's, its calls stand under its name, and its end ends nothing", () => {
  const inside = (told) => ({ event: "sub_agent", name: "scout", agent: "1", told });
  const turn = filled([
    { event: "text", text: "lead" }, inside({ event: "text", text: "scout" }),
    inside({ event: "call", id: "c0", tool: "clock", arguments: "{}" }), { event: "call", id: "c0", tool: "spawn", arguments: "{}" },
    inside({ event: "result", id: "c0", ok: false, text: "late", node: "b", seconds: 1 }), inside({ event: "end", end: "tokens" }),
  ]);
  assert.deepEqual(turn.steps.map((step) => [step.agent, step.tool, step.isOpen]), [["scout 1", "clock", false], ["", "spawn", true]]);
  assert.equal(turn.end, undefined);
});

test("a run that failed says why", () => {
  const turn = filled([{ event: "end", end: "error", code: "node_lost", message: "worker-1 is lost" }]);
  assert.deepEqual([turn.error.code, turn.labels], ["node_lost", []]);
});

test("labels of all that was said are carried on with those typed in, each once", () => {
  const turns = [{ role: "user", labels: ["work"] }, { role: "assistant", labels: ["private", "work"] }, { role: "user" }];
  assert.deepEqual(labelsOf(turns, " household, ,work "), ["household", "private", "work"]);
  assert.deepEqual(labelsOf([], ""), []);
});
