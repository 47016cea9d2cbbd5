// A talk with a model or an agent: what was said, where each answer ran, which tools were called, what waits for a yes.

import { action, badge, complain, each, facts, field, fill, form, h, notice, onChange, sentences, table } from "../dom.js";
import { approval, placeBadge } from "../approvals.js";
import { layers, rate, seconds } from "../format.js";
import { markdown } from "../markdown.js";
import { ask, lines } from "../net.js";
import { answerOf, goesAlong, labelsOf, take, turnsBefore } from "../talk.js";

const MAX_FILE = 200_000; // characters of an attached file
const DRAW_MS = 60; // while an answer streams it is drawn so often

const nobodys = { turns: [], held: [], model: "", agent: "", system: "", labels: "", route: "" };
let kept = { ...nobodys }; // while the page is open, for whoever is signed in

let running = null; // what is being answered, also while another view is open: there may be the yes that it waits for
let redraw = () => {};

export function open(main, { state, session }) {
  if (kept.key !== session.key) running?.abort();
  if (kept.key !== session.key) kept = { ...nobodys, turns: [], key: session.key };
  const log = h("div", { class: "talk", role: "log", "aria-label": "What was said" });
  const nothing = h("p", { class: "soft" }, "Nothing said yet. Your rules decide where each message goes; each answer says where it went.");
  const model = h("select", { name: "model" });
  const agent = h("select", { name: "agent" });
  const system = h("textarea", { name: "system", value: kept.system, rows: 2 });
  const labels = h("input", { name: "labels", value: kept.labels, placeholder: "private, work" });
  const route = h("input", { name: "route", value: kept.route, placeholder: "solo, or split; stages=2" });
  const text = h("textarea", { name: "text", rows: 3, "aria-label": "Your message", placeholder: "Enter sends it, Shift+Enter begins a new line", required: true,
    onkeydown: (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); send.requestSubmit(); }
    } });
  const files = h("input", { type: "file", multiple: true, "aria-label": "Attach text files" });
  const stopButton = h("button", { type: "button", class: "risky", hidden: true, onclick: () => running?.abort() }, "Stop");
  const carries = h("p", { class: "soft small" });
  const held = h("div", { class: "row small" });

  const send = form({ class: "card stack" }, async () => {
    if (running) return notice("Stop the answer first.");
    const words = text.value.trim();
    if (!words) return;
    const attached = [...kept.held, ...await Promise.all([...files.files].map(read))];
    text.value = "";
    files.value = "";
    kept.held = [];
    kept.turns.push({ role: "user", text: words, files: attached });
    go(); // not waited for: the form stays usable while it streams
  }, text, h("div", { class: "row wide" }, h("span", { class: "row" }, files),
    h("span", { class: "row" }, stopButton, h("button", { class: "main" }, "Send"))));

  fill(main, h("h1", {}, "Chat"),
    h("details", { class: "card" }, h("summary", {}, "Model, agent, labels"),
      h("div", { class: "stack" },
        h("form", { class: "grid", onsubmit: (event) => event.preventDefault(), onchange: remember, oninput: remember },
          field("Model", model), session.is_owner ? field("Agent", agent) : null,
          field("Labels that narrow where it may go", labels), field("Route", route),
          field("System prompt", system, { class: "whole" })),
        action("New chat", () => { running?.abort(); kept.turns = []; kept.held = []; draw(); }))),
    nothing, log, carries, held, send);
  const show = each(log, (turn) => turn, (turn) => (turn.role === "user" ? { element: said(turn) } : answered()));

  function remember() {
    kept = { ...kept, model: model.value, agent: agent.value, system: system.value, labels: labels.value, route: route.value };
  }

  function draw() {
    show(kept.turns);
    nothing.hidden = kept.turns.length > 0;
    if (!running && document.activeElement === stopButton) text.focus();
    stopButton.hidden = !running;
    const carried = labelsOf(kept.turns, labels.value);
    fill(held, kept.held.map((file) => [badge(file.name), action("Leave it out", () => { kept.held = kept.held.filter((one) => one !== file); draw(); },
      "plain", { "aria-label": `Leave ${file.name} out` })]));
    fill(carries, carried.length ? ["This chat carries: ", carried.map((one) => badge(one))] : null);
  }

  function said(turn) {
    return h("article", { class: "said" }, h("p", { class: "words" }, turn.text),
      (turn.files ?? []).map((file) => badge(`${file.name} (${file.text.length} characters)`)),
      h("div", { class: "row" }, action("Edit", () => {
        if (running) return notice("Stop the answer first.");
        text.value = turn.text;
        kept.held = turn.files ?? []; // what it said goes as it went: with its files, and under its labels
        labels.value = labelsOf([turn], labels.value).join(", ");
        remember();
        kept.turns = kept.turns.slice(0, kept.turns.indexOf(turn));
        draw();
        text.focus();
      }, "plain", { "aria-label": "Edit this message and go on from here" })));
  }

  /** An answer, of which only that is drawn anew that has changed: a button that is about to be pressed stays. */
  function answered() {
    const [calls, words, trouble, asked, about, again, read] = Array.from({ length: 7 }, () => h("div", {}));
    const element = h("article", { class: "answer" }, calls, words, trouble, asked, about, h("div", { class: "row" }, again, read));
    const showCalls = each(calls, (one) => one, step);
    const showWords = onChange(words, ([text, isOpen]) => text ? markdown(text) : isOpen && h("p", { class: "soft" }, "…"));
    const showTrouble = onChange(trouble, (error) => error &&
      h("p", { class: "bad", role: "alert" }, `${sentences(error.message, error.hint)} (${error.code ?? "error"})`));
    const showAsked = each(asked, (one) => one.id, (one) => ({ element: approval(one) }));
    const showAbout = onChange(about, told);
    const showAgain = onChange(again, (may) => may && action("Try again", () => { kept.turns.pop(); go(); }, "plain"));
    const showRead = onChange(read, (receipt) => receipt && exposure(receipt));
    return { element, update: (turn) => {
      element.setAttribute("aria-busy", turn.isOpen);
      showCalls(turn.steps);
      showWords([turn.text, turn.isOpen]);
      showTrouble(turn.error ?? null);
      showAsked(session.is_owner ? waitingHere(turn) : []);
      showAbout({ ...turn, text: null, steps: null, hasText: Boolean(turn.text), along: goesAlong(turn) });
      showAgain(!turn.isOpen && turn === kept.turns.at(-1));
      showRead(!turn.isOpen && session.is_owner ? turn.receipt ?? null : null);
    } };
  }

  function waitingHere(turn) {
    if (!turn.isOpen) return [];
    return (state.get("approvals") ?? []).filter((one) => turn.run ? one.id.startsWith(`${turn.run}-`)
      : turn.receipt ? one.id === turn.receipt // before it is known, what of this key waits for the same model, and was asked no earlier
        : !turn.agent && one.key === session.key && one.model === turn.model && one.task === "chat" && !turn.elders.includes(one.id));
  }

  async function go() {
    const turn = { role: "assistant", text: "", steps: [], isOpen: true, agent: agent.value || null, model: model.value,
      elders: (state.get("approvals") ?? []).map((one) => one.id) };
    const before = turnsBefore(kept.turns);
    kept.turns.push(turn);
    running = new AbortController();
    draw();
    let timer = null;
    const later = () => { timer ??= setTimeout(() => { timer = null; redraw(); }, DRAW_MS); };
    toEnd();
    const carried = labelsOf(kept.turns, labels.value);
    kept.turns.at(-2).labels = carried;
    const headers = { ...(carried.length ? { "x-mycoswarm-labels": carried.join(", ") } : {}),
      ...(route.value.trim() && !turn.agent ? { "x-mycoswarm-route": route.value.trim() } : {}) };
    try {
      const source = turn.agent
        ? lines("POST", `/api/agents/${encodeURIComponent(turn.agent)}/run`, { task: before.at(-1).content, earlier: before.slice(0, -1) },
          { signal: running.signal, headers })
        : lines("POST", "/v1/chat/completions", { model: model.value, stream: true, stream_options: { include_usage: true },
          messages: [...(system.value.trim() ? [{ role: "system", content: system.value.trim() }] : []), ...before] }, { signal: running.signal, headers });
      for await (const event of source) {
        take(turn, event);
        later();
      }
      if (!turn.end && !turn.error) turn.error = { message: "The answer broke off.", hint: "Try again.", code: "broken_off" };
    } catch (error) {
      if (error.name === "AbortError") turn.stopped = true;
      else turn.error = { message: error.message, hint: error.hint, code: error.code };
    } finally {
      clearTimeout(timer);
      turn.isOpen = false;
      running = null;
      redraw();
    }
  }

  load().catch(complain);
  redraw = () => { const low = isAtEnd(); draw(); if (low) toEnd(); };
  draw();
  const stop = state.on(["approvals"], () => { if (running) draw(); });
  return () => { stop(); redraw = () => {}; };

  async function load() {
    const [models, agents] = await Promise.all([ask("GET", "/v1/models"), session.is_owner ? ask("GET", "/api/agents") : { agents: [] }]);
    fill(model, models.data.map((one) => h("option", { value: one.id }, one.id)));
    fill(agent, h("option", { value: "" }, "none"), agents.agents.filter((one) => !one.fault).map((one) => h("option", { value: one.name }, one.name)));
    if (models.data.some((one) => one.id === kept.model)) model.value = kept.model;
    if (kept.agent) agent.value = kept.agent;
    remember();
  }
}

function isAtEnd() {
  return innerHeight + scrollY >= document.documentElement.scrollHeight - 120;
}

function toEnd() {
  scrollTo({ top: document.documentElement.scrollHeight });
}

async function read(file) {
  const words = await file.text();
  if (words.includes("\u0000")) throw new Error(`${file.name} is no text file.`);
  if (words.length > MAX_FILE) throw new Error(`${file.name} has more than ${MAX_FILE} characters.`);
  return { name: file.name, text: words };
}

/** A call of a tool, or of a sub-agent: open it to see what went in and what came out. */
function step() {
  const [head, body] = [h("summary", {}), h("div", {})];
  const showHead = onChange(head, (one) => [one.agent ? `[${one.agent}] ` : "", h("code", {}, one.tool), " ",
    one.isOpen ? badge("runs", "warn") : badge(one.ok ? "done" : "failed", one.ok ? "good" : "bad"), " ",
    placeBadge(one.ran), " ", h("span", { class: "soft small" }, [one.node ? `on ${one.node}` : null, one.seconds === undefined ? null : seconds(one.seconds)].filter(Boolean).join(", "))]);
  const showBody = onChange(body, ([given, came]) => [given, came].map((text) => text !== null && h("pre", { tabindex: "0" }, text)));
  const element = h("details", { class: "step" }, head, body);
  return { element, update: (one) => {
    element.dataset.tool = one.tool;
    showHead({ ...one, arguments: null, text: null });
    showBody([one.arguments, one.text ?? null]);
  } };
}

/** Where an answer ran, by which rule, how fast. */
function told(turn) {
  const about = turn.about ?? {};
  const stages = (about.stages ?? []).map((stage) => `${stage.node} ${layers(stage.layers)}`).join(" + ");
  const nodes = stages || (about.nodes ?? turn.nodes ?? []).join(", ");
  const speed = about.timing?.step_s ? rate(about.timing.steps / about.timing.step_s) : rate(turn.speed);
  if (!nodes && !turn.receipt && !turn.stopped) return null;
  return h("div", { class: "about small" },
    h("div", { class: "row" }, placeBadge(about.ran ?? turn.ran), about.endpoint ? badge(about.endpoint.name) : null,
      turn.stopped ? badge("stopped", "warn") : null,
      !turn.isOpen && turn.hasText && !turn.along ? badge("not sent along: its labels are not known", "warn") : null, turn.end && !["stop", "answer"].includes(turn.end) ? badge(turn.end, "warn") : null,
      nodes ? h("span", { class: "soft" }, `ran on ${nodes}`) : null, speed ? h("span", { class: "soft" }, speed) : null),
    facts([["Rule", about.rule ?? turn.rule], ["Receipt", turn.receipt ? receipt(turn.receipt) : null],
      ["Tokens", answerOf(turn)]]),
    turn.asked ? h("details", {}, h("summary", {}, `Where the model was asked, step by step (${turn.asked.length})`),
      table(["Step", "Where", "On", "Rule", "Speed", "Receipt"], turn.asked.map((one, index) => [one.agent ? `${index + 1} [${one.agent}]` : String(index + 1),
        placeBadge(one.ran) ?? "unknown", one.nodes.join(", "), one.rule, rate(one.speed) ?? "not measured", receipt(one.receipt)]))) : null);
}

/** A receipt; the view Requests shows its request. */
function receipt(id) {
  return h("a", { href: `#requests/${encodeURIComponent(id)}` }, h("code", {}, id));
}

function namesOf(readers) {
  return [...new Set(readers.map((one) => one.name ?? one.node ?? JSON.stringify(one)))].join(", ");
}

function exposure(receipt) {
  const box = h("div", {});
  return h("details", { ontoggle: async (event) => {
    if (!event.target.open || box.firstChild) return;
    try {
      const found = await ask("GET", `/api/ledger/${encodeURIComponent(receipt)}/exposure`);
      fill(box, h("p", {}, "Could have read the prompt: ", namesOf(found.readers) || "nobody"),
        found.informed?.length ? h("p", {}, "Knew of the request, without its text: ", namesOf(found.informed)) : null,
        (found.notes ?? []).map((note) => h("p", { class: "soft" }, note)));
    } catch (error) {
      complain(error);
    }
  } }, h("summary", { class: "small" }, "Who could have read this?"), box);
}
