// What the node has told, and what is read out of it.

import assert from "node:assert/strict";
import { test } from "node:test";

import { State, adoptable, ringNodes, roomOf, standing } from "../../web/state.js";

test("who asks for a section hears what there is and each change, until it stops", () => {
  const state = new State();
  const heard = [];
  state.on(["rings"], () => heard.push("early"));
  state.take({ node: { name: "pi" } });
  assert.deepEqual(heard, []);
  const stop = state.on(["node", "rings"], (told) => heard.push(told.get("node").name));
  assert.deepEqual(heard, ["pi"]);
  state.take({ node: { name: "nuc" }, rings: [] });
  assert.deepEqual(heard, ["pi", "early", "nuc"]);
  stop();
  state.take({ node: { name: "mac" } });
  assert.deepEqual([heard.length, state.get("node").name, state.get("rings"), state.get("other")], [3, "mac", [], undefined]);
});

test("a listener that stops itself or another while it hears leaves the rest their turn", () => {
  const state = new State();
  const heard = [];
  const stop = state.on(["a"], () => { heard.push(1); stop(); });
  state.on(["a"], () => heard.push(2));
  state.take({ a: 0 });
  state.take({ a: 0 });
  assert.deepEqual(heard, [1, 2, 2]);
});

test("a node is lost, works or is ready", () => {
  const ring = { in_use_by: 1, stages: [{ node_id: "a" }] };
  assert.equal(standing({ node_id: "a", trouble: "does not answer" }, [ring]), "lost");
  assert.equal(standing({ node_id: "a", trouble: null }, [ring]), "works");
  assert.equal(standing({ node_id: "a", trouble: null }, [{ ...ring, in_use_by: 0 }]), "ready");
  assert.equal(standing({ node_id: "b", trouble: null }, [ring]), "ready");
});

test("a ring's stages keep their order, and those on lost or unknown nodes are lost", () => {
  const nodes = [{ node_id: "a", trouble: null }, { node_id: "b", trouble: "does not answer" }];
  const stages = ["c", "b", "a"].map((node_id, index) => ({ node_id, layers: [index, index + 1] }));
  assert.deepEqual(ringNodes({ stages }, nodes).map(({ node_id, lost }) => [node_id, lost]), [["c", true], ["b", true], ["a", false]]);
});

test("only nodes of no swarm that are no members can be adopted", () => {
  const candidates = [{ name: "new" }, { name: "ours", is_member: true }, { name: "theirs", swarm: "0123" }];
  assert.deepEqual(adoptable({ candidates }).map((one) => one.name), ["new"]);
  assert.deepEqual(adoptable({}), []);
});

test("a machine's memory is what it may fill: a limit above all that there is limits nothing", () => {
  assert.equal(roomOf({ memory_total_bytes: 8, memory_limit_bytes: 4 }), 4);
  assert.equal(roomOf({ memory_total_bytes: 8, memory_limit_bytes: 100 }), 8);
  assert.equal(roomOf({ memory_total_bytes: null, memory_limit_bytes: 4 }), 4);
  assert.equal(roomOf({}), null);
});
