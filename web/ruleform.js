// A rule as a form: what stands in its fields, and the rule that they make. The node checks it; here nothing is guessed.

import { action, field, fill, h } from "./dom.js";

const words = (text) => text.split(",").map((one) => one.trim()).filter(Boolean);
const joined = (list) => (list ?? []).join(", ");
const some = (list) => list.length ? list : undefined;
const given = (text) => text.trim() || undefined;

/** Leaves out what is not there, and gives undefined where nothing is. */
export function compact(object) {
  const found = Object.entries(object).filter(([, value]) => value !== undefined);
  return found.length ? Object.fromEntries(found) : undefined;
}

/** The conditions that these texts make, by the names of `WHEN`. */
export function whenOf(texts) {
  const number = (text) => text.trim() === "" ? undefined : Number(text);
  return compact({
    model: given(texts.model), task: given(texts.task), keys: some(words(texts.keys)), users: some(words(texts.users)),
    labels: compact({ any: some(words(texts.any)), all: some(words(texts.all)), none: some(words(texts.none)) }),
    characters: compact({ from: number(texts.characters_from), to: number(texts.characters_to) }),
    hours: compact({ from: given(texts.hours_from), to: given(texts.hours_to), days: some(words(texts.days)), zone: given(texts.zone) }),
    client: some(words(texts.client)),
  });
}

/** The texts for a rule's conditions. */
export function textsOf(when = {}) {
  const text = (value) => value === undefined || value === null ? "" : String(value);
  return {
    model: text(when.model), task: text(when.task), keys: joined(when.keys), users: joined(when.users),
    any: joined(when.labels?.any), all: joined(when.labels?.all), none: joined(when.labels?.none),
    characters_from: text(when.characters?.from), characters_to: text(when.characters?.to),
    hours_from: text(when.hours?.from), hours_to: text(when.hours?.to), days: joined(when.hours?.days), zone: text(when.hours?.zone),
    client: joined(when.client),
  };
}

const WHEN = [
  ["model", "Model (a glob)", "llama-*"], ["task", "Task (a glob)", "chat, agent, tool:*"], ["keys", "API keys", "lena, guest-*"],
  ["users", "Users", "lena"], ["any", "Labels: one of", "private"], ["all", "Labels: all of", ""], ["none", "Labels: none of", "work"],
  ["characters_from", "Characters from", "500"], ["characters_to", "Characters below", "8000"],
  ["hours_from", "Hours from", "22:00"], ["hours_to", "Hours to", "06:00"], ["days", "Days", "fri, sat"], ["zone", "Time zone", "Europe/Berlin"],
  ["client", "Client networks", "192.168.1.0/24"],
];
const RUN = [
  ["nodes", "Nodes", "tower, pi"], ["tags", "Tags (all of)", "gpu"], ["facts", "Facts (all of)", "vram_bytes >= 24GiB"],
  ["places", "Places", "this-machine, LAN"], ["prefer", "Prefer", "tower"],
];
const KINDS = [["run", "run on nodes"], ["external", "send to an endpoint"], ["ask", "ask me first"], ["deny", "refuse"]];

/** The editor of a rule: `{element, value()}`. */
export function ruleForm(rule, endpoints) {
  const texts = textsOf(rule.when);
  const name = h("input", { value: rule.name ?? "", required: true, maxlength: 80 });
  const note = h("input", { value: rule.note ?? "" });
  const inputs = Object.fromEntries(WHEN.map(([key, , hint]) => [key, h("input", { value: texts[key], placeholder: hint, autocapitalize: "none" })]));
  const then = actionForm(rule.then ?? { do: "run" }, endpoints, KINDS);
  const fallbacks = [];
  const list = h("div", { class: "stack" });
  const add = (one) => { fallbacks.push(actionForm(one, endpoints, KINDS.filter(([kind]) => kind !== "deny"))); draw(); };
  const draw = () => fill(list, fallbacks.map((one, index) => h("fieldset", {}, h("legend", {}, `If that cannot be carried out (${index + 1})`), one.element,
    action("Take this away", () => { fallbacks.splice(index, 1); draw(); }, "plain"))));
  (rule.fallback ?? []).forEach(add);
  const element = h("div", { class: "stack" },
    h("div", { class: "grid-form" }, field("Name", name), field("Note", note)),
    h("fieldset", {}, h("legend", {}, "When (all that is filled in must hold)"), h("div", { class: "grid-form" }, WHEN.map(([key, label]) => field(label, inputs[key])))),
    h("fieldset", {}, h("legend", {}, "Then"), then.element), list,
    action("Add a fallback", () => add({ do: "run" }), "plain"));
  const value = () => compact({
    name: name.value.trim(), note: given(note.value), enabled: rule.enabled,
    when: whenOf(Object.fromEntries(WHEN.map(([key]) => [key, inputs[key].value]))),
    then: then.value(), fallback: some(fallbacks.map((one) => one.value())),
  });
  return { element, value };
}

/** The editor of an action: `{element, value()}`. */
export function actionForm(given_, endpoints, kinds) {
  const kind = h("select", { onchange: () => draw() }, kinds.map(([value, label]) => h("option", { value }, label)));
  kind.value = given_.do;
  const parts = h("div", {});
  let value = () => given_;
  const draw = () => {
    const old = kind.value === given_.do ? given_ : {};
    const made = PARTS[kind.value](old, endpoints, kinds);
    value = () => ({ do: kind.value, ...made.value() });
    fill(parts, made.element);
  };
  draw();
  return { element: h("div", { class: "stack" }, field("Do", kind), parts), value: () => value() };
}

const PARTS = {
  run(old) {
    const inputs = Object.fromEntries(RUN.map(([key, , hint]) => [key, h("input", { value: joined(old[key]), placeholder: hint, autocapitalize: "none" })]));
    const split = h("select", {}, ["split allowed", "solo", "split required"].map((one) => h("option", { value: one }, one)));
    split.value = old.split ?? "split allowed";
    const sandbox = h("select", {}, ["required", "optional"].map((one) => h("option", { value: one }, one)));
    sandbox.value = old.sandbox ?? "required";
    return {
      element: h("div", { class: "grid-form" }, RUN.map(([key, label]) => field(label, inputs[key])), field("Layers", split), field("Sandbox of tools", sandbox)),
      value: () => compact({ ...Object.fromEntries(RUN.map(([key]) => [key, some(words(inputs[key].value))])),
        split: split.value === "split allowed" ? undefined : split.value, sandbox: sandbox.value === "required" ? undefined : sandbox.value }) ?? {},
    };
  },
  external(old, endpoints) {
    const name = h("input", { value: old.name ?? "", list: "endpoint-names", required: true });
    const model = h("input", { value: old.model ?? "" });
    return {
      element: h("div", { class: "grid-form" }, field("Endpoint", name), field("Model there (else the same name)", model),
        h("datalist", { id: "endpoint-names" }, endpoints.map((one) => h("option", { value: one })))),
      value: () => compact({ name: name.value.trim(), model: given(model.value) }),
    };
  },
  ask(old, endpoints, kinds) {
    const within = h("input", { type: "number", min: 1, value: old.within_s ?? 120 });
    const then = actionForm(old.then ?? { do: "run" }, endpoints, kinds.filter(([kind]) => kind === "run" || kind === "external"));
    return {
      element: h("div", { class: "stack" }, field("Seconds to wait for my yes", within), h("fieldset", {}, h("legend", {}, "And then"), then.element)),
      value: () => ({ within_s: Number(within.value), then: then.value() }),
    };
  },
  deny(old) {
    const message = h("input", { value: old.message ?? "", required: true });
    return { element: field("What whoever asked is told", message), value: () => ({ message: message.value.trim() }) };
  },
};

/** An action in a few words. */
export function actionWords(one) {
  if (one.do === "run") {
    const where = [one.nodes && `on ${joined(one.nodes)}`, one.tags && `tagged ${joined(one.tags)}`, one.facts && `where ${joined(one.facts)}`,
      one.places && `at ${joined(one.places)}`, one.split, one.prefer && `preferring ${joined(one.prefer)}`].filter(Boolean);
    return `run ${where.join(", ") || "on any adopted node of this LAN"}`;
  }
  if (one.do === "external") return `send to ${one.name}${one.model ? ` as ${one.model}` : ""}`;
  if (one.do === "ask") return `ask me (${one.within_s ?? 120} s), then ${actionWords(one.then)}`;
  return `refuse: ${one.message ?? ""}`;
}

/** Conditions in a few words. */
export function whenWords(when) {
  if (!when || !Object.keys(when).length) return "always";
  const texts = textsOf(when);
  return WHEN.filter(([key]) => texts[key]).map(([key, label]) => `${label.split(" (")[0].toLowerCase()} ${texts[key]}`).join("; ");
}
