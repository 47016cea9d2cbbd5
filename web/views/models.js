// Models: who holds which, what is loaded where, how fast, what would fit; loading, exams, pulls.

import { action, badge, complain, facts, field, fill, form, h, notice, onChange, sure, table, visible } from "../dom.js";
import { bytes, count, layers, rate, short, when } from "../format.js";
import { NodeError, ask, lines } from "../net.js";

// What runs, also while another view is open. By key: what it is, how far, and the way to stop it.
const works = new Map();
const hearers = new Set();
const tell = () => hearers.forEach((hear) => hear());

/** Follow long work to its last line; `step(told)` gives what to show: text, done, total. */
async function follow(key, title, path, body, step, { headers = {}, after = "" } = {}) {
  if (works.has(key)) return notice(`${works.get(key).title} goes on; wait for it, or stop it first.`);
  const work = { title, text: "begins", done: null, total: null, stop: new AbortController() };
  works.set(key, work);
  tell();
  let last = null;
  try {
    for await (const told of lines("POST", path, body, { headers, signal: work.stop.signal })) {
      if (told.error) throw new NodeError(200, told);
      if (told.headers) continue;
      last = told;
      Object.assign(work, step(told));
      tell();
    }
    if (!last || !(last.model || last.event === "certificate")) throw new NodeError(200, { error: { message: `${title} broke off.`, code: "broke_off" } });
    notice(`${title}: done.${last.is_checked === false ? " Nobody had promised its SHA-256." : ""}`);
  } catch (error) {
    if (error.name !== "AbortError") complain(error);
    else notice(`${title}: stopped.${after}`);
  } finally {
    works.delete(key);
    tell();
  }
}

function working(key) {
  const box = h("div", {});
  const bar = h("progress", {});
  const text = h("span", { class: "small" });
  const shown = h("div", { class: "work" }, bar, h("div", { class: "row wide" }, text, action("Stop", () => works.get(key)?.stop.abort(), "plain risky")));
  const draw = () => {
    const work = works.get(key);
    if (!work) return void fill(box);
    if (!box.firstChild) fill(box, shown);
    bar.setAttribute("aria-label", visible(work.title));
    if (work.total) Object.assign(bar, { max: work.total, value: work.done });
    else bar.removeAttribute("value");
    fill(text, `${work.title}: ${work.text}`);
  };
  hearers.add(draw);
  draw();
  return { box, stop: () => hearers.delete(draw) };
}

export function open(main, { state }) {
  const list = h("div", {});
  const pending = h("div", {});
  const cards = new Map(); // by digest
  const pulling = working("pull");
  fill(main, h("h1", {}, "Models"), list, h("h2", {}, "Add a model"), pulling.box, pending, adding());
  const draw = onChange(pending, (all) => all.map(unfinished));
  const show = () => {
    const told = state.get("models");
    if (!told) return;
    const rings = state.get("rings") ?? [];
    const known = new Set(told.models.map((model) => model.digest));
    for (const [digest, card] of cards) {
      if (known.has(digest)) continue;
      card.stop();
      card.element.remove();
      cards.delete(digest);
    }
    told.models.forEach((model, index) => {
      if (!cards.has(model.digest)) cards.set(model.digest, made(model));
      const card = cards.get(model.digest);
      if (list.children[index] !== card.element) list.insertBefore(card.element, list.children[index] ?? null);
      card.show(model, rings.filter((ring) => ring.model_digest === model.digest), state.get("rules"));
    });
    draw(works.has("pull") ? [] : told.unfinished);
  };
  hearers.add(show);
  const off = state.on(["models", "rings", "rules"], show);
  return () => { off(); pulling.stop(); hearers.delete(show); cards.forEach((card) => card.stop()); };
}

function pull(source, name) {
  return follow("pull", `Pull of ${name ?? source}`, "/api/models/pull", { source, name }, (told) => told.model
    ? { text: "done", done: 1, total: 1 }
    : { text: `${told.phase}, ${bytes(told.done_bytes)} of ${bytes(told.total_bytes)}`, done: told.done_bytes, total: told.total_bytes },
  { after: " What has come is kept." });
}

function unfinished(one) {
  return h("section", { class: "card asking", "aria-label": `Unfinished pull of ${one.name}`, "data-unfinished": one.name },
    h("h3", {}, `${one.name} has come in part`),
    facts([["From", one.source], ["Here", `${bytes(one.done_bytes)} of ${bytes(one.total_bytes)}`]]),
    h("div", { class: "row" }, action("Go on", () => pull(one.source, one.name), "main"),
      action("Drop it", () => ask("DELETE", `/api/models/${encodeURIComponent(one.name)}`), "risky")));
}

function adding() {
  const source = h("input", { required: true, placeholder: "hf:OWNER/REPO/FILE.gguf", autocapitalize: "none", spellcheck: "false" });
  const name = h("input", { placeholder: "as the file", maxlength: 120 });
  const path = h("input", { required: true, placeholder: "/home/me/model.gguf", autocapitalize: "none", spellcheck: "false" });
  const called = h("input", { placeholder: "as the file", maxlength: 120 });
  return h("div", { class: "cards" },
    h("section", { class: "card stack" }, h("h3", {}, "Fetch one"),
      h("p", { class: "soft small" }, "An https address of a .gguf file, or a file of the hub. Only the host that you name is asked, and those that it "
        + "sends on to. While this page is open it goes on; stopped, it goes on later where it was."),
      form({ class: "stack" }, async () => { pull(source.value.trim(), name.value.trim() || null); }, field("From", source), field("Call it", name),
        h("button", { class: "main" }, "Pull"))),
    h("section", { class: "card stack" }, h("h3", {}, "Take a file of this node"),
      form({ class: "stack" }, async () => {
        const told = path.value.trim();
        follow("pull", `Reading ${told}`, "/api/models", { path: told, name: called.value.trim() || null }, (line) => line.model ? {}
          : { text: `${bytes(line.done_bytes)} of ${bytes(line.total_bytes)}`, done: line.done_bytes, total: line.total_bytes });
      }, field("Its path there", path), field("Call it", called), h("button", {}, "Add"))));
}

/** One model's card: made once, so that what is open in it stays open. */
function made(model) {
  const base = `/api/models/${encodeURIComponent(model.name)}`;
  const [head, about, loaded, speeds, buttons, fitting] = Array.from({ length: 6 }, () => h("div", {}));
  const route = h("input", { placeholder: "split; nodes=attic,cellar", autocapitalize: "none", spellcheck: "false" });
  const headers = () => (route.value.trim() ? { "X-Mycoswarm-Route": route.value.trim() } : {});
  const loading = working(`load ${model.name}`);
  const exam = working(`exam ${model.name}`);
  let seen = null;

  const look = async () => {
    const told = await ask("GET", `${base}/fit`, undefined, { headers: headers() });
    fill(speeds, speed(told));
    fill(fitting, fit(told));
  };
  const load = () => follow(`load ${model.name}`, `Loading ${model.name}`, `${base}/load`, {}, (told) => {
    if (told.event === "decided") return { text: `on ${placed(told.stages)}` };
    const nodes = told.nodes ?? [];
    const [done, total] = ["done_bytes", "total_bytes"].map((key) => nodes.reduce((sum, one) => sum + one[key], 0));
    return nodes.length ? { text: nodes.map((one) => `${one.node} ${one.what}`).join(", "), done, total } : {};
  }, { headers: headers(), after: " What is being loaded goes on." });
  const examine = () => follow(`exam ${model.name}`, `Exam of ${model.name}`, `${base}/certify`, {}, (told) =>
    told.event === "exam" ? { text: "the first case", done: 0, total: told.cases }
      : told.event === "case" ? { text: `${told.kind}: ${told.name} ${told.right ? "is right" : "is wrong"}`, done: told.number } : {});

  const drawHead = onChange(head, ([one, rings]) => h("div", { class: "row wide" }, h("h2", {}, one.name), h("span", { class: "row" },
    one.pooling ? badge("embeddings") : null,
    rings.some((ring) => ring.in_use_by) ? badge("works", "good") : rings.length ? badge("loaded", "good") : badge("not loaded"),
    badge(one.splittable ? "can be split" : "runs whole", one.splittable ? "" : "warn"))));
  const drawAbout = onChange(about, (one) => [h("div", { class: "spread" }, facts([
    ["Held by", one.held_by.join(", ") || "no node"], ["Size", bytes(one.file_bytes)], ["Type", `${one.architecture}, ${one.quantisation}`],
    ["Parameters", count(one.parameters)], ["Layers", String(one.layers)], ["Context", `${count(one.context_tokens)} tokens`],
    ["Not splittable", one.splittable ? null : one.split_reason], ["Pooling", one.pooling], ["Digest", h("span", { title: one.digest }, short(one.digest))],
    ["Certificate", one.certificate ? `${one.certificate.percent} % (${one.certificate.right} of ${one.certificate.cases}), ${when(one.certificate.at)}` : "none"]])),
  one.certificate ? h("details", {}, h("summary", {}, "Score by kind"), table(["Kind", "Right"],
    Object.entries(one.certificate.kinds).map(([kind, score]) => [kind, `${score.right} of ${score.cases}`]), `Score of ${one.name} by kind`)) : null]);
  const drawLoaded = onChange(loaded, (rings) => rings.map((ring) => h("div", { "data-ring": ring.ring_id },
    table(["Node", "Layers", "Memory", "State"], ring.stages.map((stage) => [stage.node, layers(stage.layers), bytes(stage.bytes), ring.loading?.[stage.node_id]
      ? `${ring.loading[stage.node_id].what}, ${bytes(ring.loading[stage.node_id].done_bytes)} of ${bytes(ring.loading[stage.node_id].total_bytes)}`
      : ring.is_open ? "loaded" : "loading"]),
    `Layers of ${model.name} on ${ring.stages.map((stage) => stage.node).join(", ")}`))));
  const drawButtons = onChange(buttons, ([isLoaded, isOurs, embeds]) => h("div", { class: "row" },
    action("Load", async () => { load(); }, "main", { "aria-label": `Load ${model.name}` }),
    isLoaded ? action("Unload", async () => { await ask("POST", `${base}/unload`, {}); notice(`${model.name} has left memory.`); }, "",
      { "aria-label": `Unload ${model.name}` }) : null,
    embeds ? null : action("Examine", async () => { examine(); }, "", { "aria-label": `Examine ${model.name}` }),
    isOurs ? action("Remove", async () => {
      if (!sure(`Take ${model.name} off this node's shelf?`)) return;
      await ask("DELETE", base);
    }, "risky", { "aria-label": `Remove ${model.name}` }) : null));

  const element = h("section", { class: "card stack", "data-model": model.name, "aria-label": `Model ${model.name}` }, head, about, speeds, loaded,
    loading.box, exam.box, buttons,
    h("details", { class: "fit" }, h("summary", {}, "What would fit"),
      form({ class: "row" }, look, field("Narrow where it may run; Load keeps to it, too", route, { class: "grow" }), h("button", {}, "Look again")), fitting));
  return {
    element,
    stop: () => { loading.stop(); exam.stop(); },
    show(one, rings, version) {
      const shapes = rings.map(({ ring_id, in_use_by, is_open, stages, loading: far }) => ({ ring_id, in_use_by, is_open, stages, loading: far }));
      drawHead([one, shapes]);
      drawAbout(one);
      drawLoaded(shapes);
      drawButtons([rings.length > 0, one.is_here && !one.is_built_in, Boolean(one.pooling)]);
      const now = JSON.stringify([version, rings.map((ring) => [ring.ring_id, ring.is_open, ring.answers])]);
      if (now !== seen) look().catch(complain);
      seen = now;
    },
  };
}

function placed(stages) {
  return stages.map((stage) => `${stage.node} ${layers(stage.layers)}`).join(", ");
}

function speed({ decision, measured }) {
  return facts([
    ["Predicted", decision.allowed && decision.stages ? `${rate(decision.predicted_tokens_per_s)} on ${placed(decision.stages)}` : null],
    ...measured.map((one) => ["Measured", `${rate(one.decode_tokens_per_s)} on ${placed(one.stages)}${one.is_loaded ? "" : ", not loaded now"}`])]);
}

function fit({ model, needed_bytes: needed, nodes, decision }) {
  const where = decision.endpoint ? `It would go to the endpoint ${decision.endpoint.name}.`
    : decision.allowed ? `It would run on ${placed(decision.stages)}, at about ${rate(decision.predicted_tokens_per_s)}.` : "It would be refused.";
  return [
    h("p", {}, `On one node it needs ${bytes(needed)}. `, where, ` Rule: ${decision.rule ?? "none matches"}. Because ${decision.reason}.`,
      decision.note ? ` ${decision.note}.` : ""),
    decision.ask_s === null || decision.ask_s === undefined ? null : h("p", {}, "Before that you are asked."),
    table(["Node", "Free", "Usable", "Fits whole", "Predicted alone", "Why"], nodes.map((one) => [one.name, bytes(one.free_bytes), bytes(one.usable_bytes),
      badge(one.fits_whole ? "yes" : "no", one.fits_whole ? "good" : "warn"), rate(one.predicted_tokens_per_s) ?? "", one.reason ?? ""]),
        `Each node by itself, for ${model}`)];
}
