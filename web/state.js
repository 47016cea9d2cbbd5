// What the node has told, by section, and who wants to hear of changes.

export class State {
  #sections = {};
  #listeners = new Set();

  /** What is known of a section; `undefined` before the first word of it. */
  get(name) {
    return this.#sections[name];
  }

  /** Take in the sections of one event. */
  take(sections) {
    const changed = Object.keys(sections);
    this.#sections = { ...this.#sections, ...sections };
    for (const [names, hear] of [...this.#listeners]) {
      if (names.some((name) => changed.includes(name))) hear(this);
    }
  }

  /** Hear of changes in these sections, and of what there is already. Gives the way to stop. */
  on(names, hear) {
    const entry = [names, hear];
    this.#listeners.add(entry);
    if (names.some((name) => this.#sections[name] !== undefined)) hear(this);
    return () => this.#listeners.delete(entry);
  }
}

/** The nodes in a ring's order, or null: `[{node_id, node, layers: [first, last], lost}]`. */
export function ringNodes(ring, nodes) {
  const known = new Map(nodes.map((node) => [node.node_id, node]));
  return ring.stages.map((stage) => ({ ...stage, lost: Boolean(known.get(stage.node_id)?.trouble ?? !known.has(stage.node_id)) }));
}

/** What a node is doing, in one word: "lost", "works" or "ready". */
export function standing(node, rings) {
  if (node.trouble) return "lost";
  const busy = rings.some((ring) => ring.in_use_by > 0 && ring.stages.some((stage) => stage.node_id === node.node_id));
  return busy ? "works" : "ready";
}

/** Candidates that can be adopted: heard, no member, of no other swarm. */
export function adoptable(swarm) {
  return (swarm.candidates ?? []).filter((one) => !one.is_member && !one.swarm);
}

/** The memory that a machine may fill: all that it has, or less where a limit stands below that; null if unknown. */
export function roomOf(machine) {
  const known = [machine.memory_total_bytes, machine.memory_limit_bytes].filter(Number.isFinite);
  return known.length ? Math.min(...known) : null;
}
