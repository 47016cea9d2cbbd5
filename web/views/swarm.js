// The house at a glance: nodes, the rings over them, who asks to come in, what is wrong.

import { action, badge, each, facts, field, fill, form, h, notice, onChange, s, sure, table, visible } from "../dom.js";
import { placeBadge, trouble, waiting } from "../approvals.js";
import { bytes, fixed, layers, rate, seconds, short } from "../format.js";
import { ask } from "../net.js";
import { adoptable, ringNodes, roomOf, standing } from "../state.js";

const WIDE = [720, 250];
const NARROW = [360, 250]; // so that names stay readable on a phone

export function open(main, { state }) {
  const wrong = h("div", { role: "alert" });
  const pending = waiting(state);
  const adoptions = h("div", {});
  const candidates = h("div", {});
  const picture = h("div", { class: "card" });
  const title = h("h2", { hidden: true }, "Loaded models");
  const rings = h("div", {});
  const nodes = h("div", { class: "cards" });
  fill(main, h("h1", {}, "Swarm"), wrong, pending.element, adoptions, candidates, picture, title, rings, h("h2", {}, "Nodes"), nodes);

  const showTrouble = onChange(wrong, (found) => found.map(trouble));
  const showAdoptions = onChange(adoptions, (found) => found.map(adoption));
  const showCandidates = onChange(candidates, (found) => found.length > 0 &&
    h("section", { class: "card" }, h("h2", {}, "Heard on this network"), found.map(candidate)));
  const showPicture = onChange(picture, ([all, loaded]) => drawing(all, loaded));
  const showRings = each(rings, (one) => one.ring_id, ring);
  const showNodes = each(nodes, ([one]) => one.node_id, node);
  const stops = [
    state.on(["node"], () => showTrouble(state.get("node")?.conditions ?? [])),
    state.on(["adoptions"], () => showAdoptions(state.get("adoptions")?.adoptions ?? [])),
    state.on(["swarm", "rings"], () => {
      const swarm = state.get("swarm");
      if (!swarm) return;
      const loaded = state.get("rings") ?? [];
      const shapes = loaded.map((one) => ({ stages: one.stages, in_use_by: one.in_use_by, model: one.model }));
      showCandidates(adoptable(swarm).map(({ node_id, name, addresses }) => ({ node_id, name, addresses })));
      showPicture([swarm.nodes.map(({ node_id, name, trouble: why, is_this }) => ({ node_id, name, trouble: why, is_this })), shapes]);
      title.hidden = loaded.length === 0;
      showRings(loaded);
      showNodes(swarm.nodes.map((one) => [one, shapes]));
    }),
    pending.stop,
  ];
  return () => stops.forEach((stop) => stop());
}

function candidate(one) {
  return h("div", { class: "row wide" },
    h("span", {}, h("strong", {}, one.name), " ", h("span", { class: "soft small" }, one.addresses.join(", "))),
    action("Adopt", async () => {
      const told = await ask("POST", "/api/adopt", { node: one.node_id });
      notice(`Compare the code ${told.code} with the one on ${told.name}.`);
    }, "main", { "aria-label": `Adopt ${one.name}` }));
}

function adoption(one) {
  const answer = async (accept) => {
    const told = await ask("POST", "/api/adopt/answer", { code: one.code, accept });
    notice(accept ? (told.name ? `${told.name} belongs to the swarm now.` : `Confirmed here. Now confirm on ${one.name}.`) : "Refused.");
  };
  return h("section", { class: "card asking", "aria-label": `Adoption of ${one.name}` },
    h("h3", {}, `Adopt ${one.name}?`),
    h("p", {}, "The same code must be on its screen (", h("code", {}, "mycoswarm-node adopt"), " there). If they differ, refuse: somebody is in between."),
    h("p", { class: "mono", "data-code": one.code }, h("strong", {}, one.code)),
    one.confirmed ? h("p", {}, `Confirmed here. It waits for ${one.name}.`)
      : h("div", { class: "row" }, action("The codes are equal", () => answer(true), "main"), action("Refuse", () => answer(false), "risky")));
}

function ring({ ring_id: id }) {
  const head = h("div", {});
  const stages = h("div", {});
  const figures = h("div", {});
  const showHead = onChange(head, (one) => h("div", { class: "row wide" }, h("h3", {}, one.model), h("span", { class: "row" },
    one.embeds ? badge("embeddings") : null,
    !one.is_open ? badge("loading", "warn") : one.in_use_by > 0 ? badge("works", "good") : badge("idle"),
    rate(one.tokens_per_s) && one.in_use_by > 0 ? badge(rate(one.tokens_per_s)) : null)));
  const took = (value) => value === null ? "not yet known" : seconds(value);
  const showStages = onChange(stages, ([model, all]) => table(["Node", "Layers", "Memory", "For a token", "To the next"],
    all.map((stage) => [stage.node, layers(stage.layers), bytes(stage.bytes), took(stage.compute_median_s), took(stage.hop_median_s)]), `Layers of ${model}`));
  const showFigures = onChange(figures, (one) => facts([
    ["Tokens since it was loaded", String(one.tokens)], ["Last answer", rate(one.decode_tokens_per_s)],
    ["Hop overhead", one.hop_overhead_median_s === null ? null : `${seconds(one.hop_overhead_median_s)} at the median, ${one.hops} hops per token`]]));
  return { element: h("section", { class: "card", "data-ring": id }, head, stages, figures), update: (one) => {
    showHead(one);
    showStages([one.model, one.stages]);
    showFigures(one);
  } };
}

/** A card whose figures move, while what a person opens and types in it stays. */
function node() {
  const moving = h("div", {});
  const more = h("div", {});
  const element = h("section", {}, moving, more);
  const showMoving = onChange(moving, ([one, loaded]) => figures(one, loaded));
  const showMore = onChange(more, (one) => h("details", {}, h("summary", {}, "Tags and membership"), tags(one)));
  return { element, update: ([one, loaded]) => {
    element.className = `card${standing(one, loaded) === "lost" ? " trouble" : ""}`;
    element.dataset.node = one.name;
    element.setAttribute("aria-label", visible(one.name));
    showMoving([one, loaded]);
    showMore({ node_id: one.node_id, name: one.name, role: one.role, is_this: one.is_this, tags: one.tags });
  } };
}

function figures(one, loaded) {
  const is = standing(one, loaded);
  const machine = one.machine ?? {};
  const total = roomOf(machine);
  const used = total !== null && one.free_memory_bytes !== null ? Math.max(0, total - one.free_memory_bytes) : null;
  const holds = loaded.flatMap((each) => each.stages.filter((stage) => stage.node_id === one.node_id)
    .map((stage) => `${each.model} ${layers(stage.layers)}`));
  return [
    h("div", { class: "row wide" }, h("h3", {}, one.name), badge(is, { lost: "bad", works: "good", ready: "good" }[is])),
    h("p", { class: "row" }, placeBadge(one.place), badge(one.role), one.class ? badge(one.class) : null, one.tags.map((tag) => badge(`#${tag}`))),
    one.trouble ? h("p", { class: "bad" }, one.trouble) : null,
    used === null ? null : h("div", {},
      h("div", { class: "meter", role: "img", "aria-label": `${bytes(one.free_memory_bytes)} free of ${bytes(total)}` },
        h("div", { "width%": 100 * used / total }))),
    facts([
      ["Memory", `${bytes(one.free_memory_bytes)} free${total === null ? "" : ` of ${bytes(total)}`}${machine.memory_source ? ` (${machine.memory_source})` : ""}`],
      ["Board", machine.board], ["Processor", machine.processor], ["System", machine.system],
      ...(machine.gpus ?? []).map((gpu) => ["GPU", gpu.memory_total_bytes === null ? `${gpu.name}, memory unknown`
        : `${gpu.name}, ${bytes(gpu.memory_free_bytes)} free of ${bytes(gpu.memory_total_bytes)}${gpu.memory_source ? ` (${gpu.memory_source})` : ""}`]),
      ["Temperature", machine.temperature_celsius === null || machine.temperature_celsius === undefined ? null : `${fixed(machine.temperature_celsius, 0)} °C`],
      ["Load", machine.load === null || machine.load === undefined ? null : `${fixed(machine.load, 1)} on ${machine.threads ?? "?"} threads`],
      ["Away by", one.round_trip_s === null || one.is_this ? null : seconds(one.round_trip_s)],
      ["Streams weights at", one.bytes_per_s === null ? null : `${bytes(Math.round(one.bytes_per_s))}/s`],
      ["Models", one.models.join(", ") || "none"],
      ["Loaded here", holds.join(", ")],
      ["Id", short(one.node_id)],
    ]),
  ];
}

function tags(one) {
  const input = h("input", { value: one.tags.join(" "), autocapitalize: "none" });
  return h("div", { class: "stack" },
    form({ class: "row" }, async () => {
      const wanted = input.value.split(/[\s,]+/).filter(Boolean);
      await ask("POST", "/api/tags", { node: one.node_id, add: wanted.filter((tag) => !one.tags.includes(tag)),
        remove: one.tags.filter((tag) => !wanted.includes(tag)) });
      notice(`Tags of ${one.name} are kept.`);
    }, field(`Tags of ${one.name}, with spaces between`, input), h("button", {}, "Keep")),
    one.is_this || one.role !== "worker" ? null : action(`Expel ${one.name}`, async () => {
      if (!sure(`Take ${one.name} out of the swarm at once?`)) return;
      await ask("POST", "/api/expel", { node: one.node_id });
      notice(`${one.name} is out of the swarm.`);
    }, "risky"));
}

function drawing(all, loaded) {
  const [width, height] = matchMedia("(max-width: 40rem)").matches ? NARROW : WIDE;
  const place = new Map(all.map((one, index) => {
    const angle = (2 * Math.PI * index) / all.length - Math.PI / 2;
    const radius = all.length < 2 ? 0 : 1;
    return [one.node_id, [width / 2 + radius * Math.cos(angle) * width * 0.34, height / 2 - 14 + radius * Math.sin(angle) * height * 0.31]];
  }));
  const centre = all.find((one) => one.is_this);
  const links = all.filter((one) => one !== centre && centre).map((one) => line("link", place.get(centre.node_id), place.get(one.node_id)));
  const times = [];
  const hops = loaded.map((each, ring) => {
    const stops = ringNodes(each, all).map((stage) => [place.get(stage.node_id), stage.hop_median_s]).filter(([at]) => at);
    const lines = stops.length < 2 ? [] : stops.map(([from, took], index) => {
      const [to] = stops[(index + 1) % stops.length];
      const part = stops.length > 2 ? 0.5 : 0.35; // two nodes have two hops on one line: each time stands nearer to where it begins
      const [x, y] = [0, 1].map((axis) => from[axis] + (to[axis] - from[axis]) * part);
      if (took !== null) times.push(s("text", { class: "soft took", x, y: y + 4 + 13 * ring }, seconds(took)));
      return line("hop", from, to);
    });
    return s("g", { class: each.in_use_by > 0 ? "flows" : "" }, lines);
  });
  const says = new Map();
  for (const each of loaded) {
    for (const stage of each.stages) says.set(stage.node_id, [...(says.get(stage.node_id) ?? []), `${each.model} ${layers(stage.layers)}`]);
  }
  const words = all.map((one) => `${one.name}${one.trouble ? ` (lost: ${one.trouble})` : ""}${says.has(one.node_id) ? `: ${says.get(one.node_id).join(", ")}` : ""}`);
  return s("svg", { class: "net", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `The nodes and the rings over them. ${words.join("; ")}` },
    links, hops, times,
    all.map((one) => {
      const [x, y] = place.get(one.node_id);
      const held = says.get(one.node_id) ?? [];
      return s("g", { class: `${one.trouble ? "lost" : ""} ${held.length ? "in-ring" : ""}`, "data-node": one.name },
        s("circle", { cx: x, cy: y, r: 18 }),
        s("text", { x, y: y + 34 }, one.name.length > 22 ? `${one.name.slice(0, 21)}…` : one.name),
        s("text", { class: "soft", x, y: y + 48 }, one.trouble ? "lost" : held.slice(0, 2).join(", ")));
    }));
}

function line(kind, [x1, y1], [x2, y2]) {
  return s("line", { class: kind, x1, y1, x2, y2 });
}
