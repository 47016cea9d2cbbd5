// The ledger: what was asked, where it went, and whether all of it still holds together.

import { action, badge, complain, facts, field, fill, form, h, notice, onChange, s, table } from "../dom.js";
import { placeBadge, waiting } from "../approvals.js";
import { layers, seconds, short, when } from "../format.js";
import { ask, lines } from "../net.js";

// Of one try in the ledger's row of an answer, in their order.
const PHASES = [["deciding_s", "Until it was decided"], ["opening_s", "Until loaded or connected"], ["first_s", "Until the first word"],
  ["answering_s", "Until the end"]];

export function open(main, { state }) {
  const pending = waiting(state);
  const key = h("input", {});
  const outcome = h("input", { placeholder: "stop, refused, ..." });
  const rows = h("div", {});
  const shown = h("div", {});
  const verdict = h("div", { "aria-live": "polite" });
  let isFiltered = false;
  fill(main, h("h1", {}, "Requests"), pending.element,
    form({ class: "card grid" }, async () => {
      isFiltered = Boolean(key.value.trim() || outcome.value.trim());
      if (isFiltered) draw((await page(null)).requests); else draw(state.get("requests") ?? []);
    }, field("API key", key), field("Outcome", outcome), h("button", {}, "Filter"), action("Verify the ledger", verify, "main"),
    action("Older", async () => {
      if (!isFiltered) await page(null); // where the newest end
      if (last === null) return notice("There are no older ones.");
      isFiltered = true;
      draw((await page(last)).requests);
    }), action("Newest", () => { isFiltered = false; key.value = outcome.value = ""; draw(state.get("requests") ?? []); })),
    verdict, rows, shown);

  let last = null;
  async function page(after) {
    const query = new URLSearchParams({ limit: "50" });
    for (const [name, value] of [["key", key.value.trim()], ["outcome", outcome.value.trim()], ["after", after]]) if (value) query.set(name, value);
    const told = await ask("GET", `/api/ledger?${query}`);
    last = told.next;
    return told;
  }

  const draw = onChange(rows, (all) => all.length === 0 ? h("p", { class: "soft" }, "No requests.")
    : table(["When", "Task", "Model", "Key", "Where", "Rule", "Outcome", "Tokens", "Took", ""], all.map((one) => [when(one.at), one.task,
      one.model || "", one.key ?? "owner",
      h("span", {}, placeBadge(one.ran), " ", (one.nodes ?? []).join(", ")), one.rule ?? "", badge(one.outcome ?? "open", ["stop", "length",
        "tool_calls"].includes(one.outcome) ? "good" : one.outcome ? "bad" : "warn"),
      one.completion_tokens === null || one.completion_tokens === undefined ? "" : `${one.prompt_tokens} + ${one.completion_tokens}`,
        one.seconds === null ? "" : seconds(one.seconds),
      action(short(one.receipt, 8), () => show(one.receipt), "plain", { title: one.receipt })]), "Requests"));

  async function show(receipt) {
    const path = `/api/ledger/${encodeURIComponent(receipt)}`;
    const [told, exposed] = await Promise.all([ask("GET", path), ask("GET", `${path}/exposure`)]);
    const found = told.rows ?? [];
    const first = found[0]?.at ?? 0;
    fill(shown, h("section", { class: "card stack", "aria-label": `Request ${receipt}` }, h("h2", {}, "One request"), facts([["Receipt", h("code", {}, receipt)]]),
      timeline(found.filter((row) => row.kind === "answer").at(-1)?.body?.timing),
      h("h3", {}, "Who could have read it"), table(["What", "Name", "Place", "When"], exposed.readers.map((one) => [one.what, one.name,
        placeBadge(one.place) ?? "", when(one.at)])),
      (exposed.notes ?? []).map((note) => h("p", { class: "warn" }, note)),
      h("h3", {}, "What happened"), found.map((row) => event(row, first))));
    shown.scrollIntoView({ block: "nearest" });
  }

  async function showAsked(coded) {
    let receipt = coded; // anybody may have written the address
    try { receipt = decodeURIComponent(coded); } catch { /* not coded: the node says that it has none of that name */ }
    await show(receipt);
  }

  async function verify() {
    fill(verdict, h("p", {}, "Verifying …"));
    const told = [];
    for await (const one of lines("POST", "/api/ledger/verify", {})) {
      if (one.error) throw Object.assign(new Error(one.error.message), one.error);
      if (one.headers || one.event === "progress") continue;
      told.push(one);
      fill(verdict, h("section", { class: "card" }, h("h2", {}, "Verification"), told.map((each) => judged(each))));
    }
  }

  if (!state.get("requests")) page(null).then((told) => draw(told.requests)).catch(complain);
  const asked = location.hash.split("/")[1]; // an answer's receipt leads here
  if (asked) showAsked(asked).catch(complain);
  const stop = state.on(["requests"], () => { if (!isFiltered) draw(state.get("requests") ?? []); });
  return () => { stop(); pending.stop(); };
}

/** Where its time went: the phases of each try, and a token's way over the stages and hops. Rows of before have none. */
function timeline(timing) {
  if (!Array.isArray(timing?.tries)) return null;
  const known = (parts) => parts.filter(([, took]) => Number.isFinite(took));
  const tries = timing.tries.map((one) => known(PHASES.map(([kind, label]) =>
    [kind === "first_s" && one?.answering_s === undefined ? "Without a word" : label, one?.[kind], kind])));
  const stages = Array.isArray(timing.stages) ? timing.stages : [];
  const token = known(stages.flatMap((one) => [
    [`${one?.node} ${Array.isArray(one?.layers) ? layers(one.layers) : ""}`, one?.compute_median_s, "computes"],
    ["on the way to the next", one?.hop_median_s, "way"]]));
  const all = sum(tries.flat());
  return h("div", { class: "stack", "data-timing": "" }, h("h3", {}, "Where its time went"),
    facts([["First word", "first_token_s"], ["Asked the owner for", "asking_s"], ["In the head's queue", "queued_s"], ["Read the prompt for", "prefill_s"],
      ["Made tokens for", "decode_s"]].map(([label, name]) => [label, Number.isFinite(timing[name]) ? seconds(timing[name]) : null])),
    tries.map((parts, index) => bar(tries.length > 1 ? `Try ${index + 1}` : "The request", parts, sum(tries.slice(0, index).flat()), all)),
    token.length ? bar("A token at the median, stage by stage", token, 0, sum(token)) : null);
}

function sum(parts) {
  return parts.reduce((total, [, took]) => total + Math.max(0, took), 0);
}

/** Parts as lengths in order, and as a table, which also says what the colours are. */
function bar(title, parts, start, whole) {
  const rect = (kind, x, width) => s("rect", { class: kind, x, y: 0, width, height: 16 });
  const scale = 720 / (whole || 1);
  return h("div", {}, h("h4", {}, title), s("svg", { class: "time", viewBox: "0 0 720 16", preserveAspectRatio: "none", role: "img",
    "aria-label": `${title}: ${parts.map(([label, took]) => `${label} ${seconds(took)}`).join(", ")}` },
  parts.map(([, took, kind], index) => rect(kind, scale * (start + sum(parts.slice(0, index))), Math.max(1, scale * took)))),
  table(["Part", "Took"], parts.map(([label, took, kind]) =>
    [[s("svg", { class: "time key", viewBox: "0 0 16 16", "aria-hidden": "true" }, rect(kind, 0, 16)), " ", label], seconds(took)]), title));
}

/** One row of the ledger: how long after the first, what, and everything in it. */
function event(row, first) {
  const { body, ...about } = row;
  const inside = typeof body === "string" ? parsed(body) : body ?? {};
  const stages = (inside.stages ?? inside.nodes ?? []).map?.((one) => one.layers ? `${one.name ?? one.node ?? one.id} ${layers(one.layers)}` : one.name ?? one).join(", ");
  return h("details", {}, h("summary", {}, `+${seconds(Math.max(0, row.at - first))} `, h("strong", {}, row.kind), " ",
    inside.outcome ?? inside.rule ?? "", stages ? ` (${stages})` : ""),
    h("pre", { tabindex: "0" }, JSON.stringify({ ...about, body: inside }, null, 1)));
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function judged(one) {
  const { event: kind, ...rest } = one;
  const isSound = one.is_sound ?? one.sound ?? one.passed ?? (one.faults ? one.faults.length === 0 : undefined);
  return h("div", { "data-verdict": kind }, h("p", {}, isSound === undefined ? null : badge(isSound ? "sound" : "not sound",
    isSound ? "good" : "bad"), " ", h("strong", {}, kind.replaceAll("_", " ")), " ",
    Object.entries(rest).filter(([, value]) => ["string", "number", "boolean"].includes(typeof value)).map(([name,
      value]) => `${name.replaceAll("_", " ")}: ${value}`).join(" · ")),
  Object.entries(rest).filter(([, value]) => Array.isArray(value) && value.length).map(([name, value]) =>
    h("pre", { tabindex: "0" }, `${name}\n${value.map((each) => typeof each === "string" ? each : JSON.stringify(each)).join("\n")}`)));
}
