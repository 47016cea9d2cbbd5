// The rules in their order: move, edit, try out, take back. Each change is the node's: it checks tests and versions.

import { action, badge, complain, facts, field, fill, form, h, notice, sure, table } from "../dom.js";
import { layers, rate, when } from "../format.js";
import { ask } from "../net.js";
import { actionWords, ruleForm, whenWords } from "../ruleform.js";

export function open(main, { state }) {
  const list = h("ol", { class: "rules", "aria-label": "Rules in order" });
  const editor = h("div", {});
  const tests = h("div", {});
  const past = h("div", {});
  let rules = [];
  let endpoints = [];
  let version = null;
  let dragged = null;

  fill(main, h("h1", {}, "Rules"), h("p", { class: "soft" }, "The first rule that matches decides. What no rule allows does not happen."),
    list, h("div", { class: "row" },
      action("Add a rule", () => edit(null), "main"),
      action("Undo the last change", async () => { const told = await ask("POST", "/api/rules/undo",
        {}); notice(`Taken back. The rules are as of version ${told.version}.`); await load(); })),
    editor, explainBox(), tests, replayBox(), past);

  async function load() {
    const [told, known, history] = await Promise.all([ask("GET", "/api/rules"), ask("GET", "/api/endpoints"), ask("GET", "/api/rules/history?limit=20")]);
    rules = told.rules;
    version = told.version;
    endpoints = known.endpoints.map((one) => one.name);
    fill(list, rules.map(row));
    showTests(told.tests);
    fill(past, h("details", { class: "card" }, h("summary", {}, "History"),
      table(["Version", "When", "Who", "What"], history.versions.map((one) => [String(one.version), when(one.at), one.by, one.what]))));
  }

  const path = (name, rest = "") => `/api/rules/${encodeURIComponent(name)}${rest}`;
  const change = async (method, where, body = {}) => {
    try {
      const told = await ask(method, where, { ...body, version });
      if (told.shadowed_by) notice(`This rule never decides anything: ${told.shadowed_by} stands before it.`, true);
      return told;
    } finally {
      await load();
    }
  };

  function row(rule, index) {
    const move = (position, way) => change("POST", path(rule.name, "/move"), { position }).then(() => {
      const both = [way, "up", "down"].map((one) => list.querySelector(`[data-rule="${CSS.escape(rule.name)}"] .${one}:enabled`));
      both.find(Boolean)?.focus(); // at the end of its way, the other
    });
    return h("li", { class: `card rule${rule.enabled === false ? " off" : ""}`, draggable: "true", "data-rule": rule.name,
      ondragstart: (event) => { dragged = rule.name; event.dataTransfer.effectAllowed = "move"; },
      ondragover: (event) => { event.preventDefault(); event.currentTarget.classList.add("over"); },
      ondragleave: (event) => event.currentTarget.classList.remove("over"),
      ondrop: (event) => {
        event.preventDefault();
        event.currentTarget.classList.remove("over");
        const name = dragged;
        if (name && name !== rule.name) change("POST", path(name, "/move"), { position: index + 1 }).catch(complain);
      } },
    h("div", { class: "row wide" }, h("h2", {}, `${index + 1}. ${rule.name}`), h("span", { class: "row" },
      rule.enabled === false ? badge("off") : null, rule.shadowed_by ? badge(`never decides: ${rule.shadowed_by} is before it`, "warn") : null)),
    facts([["When", whenWords(rule.when)], ["Then", actionWords(rule.then)],
      ...(rule.fallback ?? []).map((one) => ["Else", actionWords(one)]), ["Note", rule.note],
      ["Changed", rule.changed_at ? `${when(rule.changed_at)} by ${rule.changed_by}` : null]]),
    h("div", { class: "row" },
      action("Up", () => move(index, "up"), "plain up", { "aria-label": `Move ${rule.name} up`, disabled: index === 0 }),
      action("Down", () => move(index + 2, "down"), "plain down", { "aria-label": `Move ${rule.name} down`, disabled: index === rules.length - 1 }),
      action("Edit", () => edit(rule), "plain", { "aria-label": `Edit ${rule.name}` }),
      action(rule.enabled === false ? "Switch on" : "Switch off", () => change("POST", path(rule.name, rule.enabled === false ? "/enable" : "/disable")), "plain"),
      action("Remove", async () => { if (sure(`Take out the rule ${rule.name}?`)) await change("DELETE", path(rule.name)); }, "plain risky")));
  }

  function edit(rule) {
    const made = ruleForm(rule ?? { then: { do: "run" } }, endpoints);
    fill(editor, form({ class: "card stack", "aria-label": rule ? `Edit ${rule.name}` : "A new rule" }, async () => {
      if (rule) await change("PUT", path(rule.name), { rule: made.value() });
      else await change("POST", "/api/rules", { rule: made.value(), position: 1 });
      fill(editor);
      notice("The rule is kept.");
    }, h("h2", {}, rule ? `Edit ${rule.name}` : "A new rule, put first"), made.element,
    h("div", { class: "row" }, h("button", { class: "main" }, "Keep"), h("button", { type: "button", onclick: () => fill(editor) }, "Cancel"))));
    editor.scrollIntoView({ block: "nearest" });
    editor.querySelector("input")?.focus();
  }

  function showTests(found) {
    const result = h("div", {});
    const name = h("input", { required: true });
    const request = h("textarea", { rows: 2, required: true, value: '{"model": "spore", "labels": ["private"]}' });
    const expect = h("textarea", { rows: 2, required: true, value: '{"outcome": "run"}' });
    fill(tests, h("details", { class: "card", open: tests.querySelector("details")?.open }, h("summary", {}, `Tests of the rules (${found.length})`),
      found.length ? table(["Test", "Request", "Expected", ""], found.map((one) => [one.name, h("code", {}, JSON.stringify(one.request)), h("code",
        {}, JSON.stringify(one.expect)),
        action("Remove", () => change("POST", "/api/rules/tests", { tests: { [one.name]: null } }), "plain risky",
          { "aria-label": `Remove the test ${one.name}` })])) : null,
      h("div", { class: "row" }, action("Run all tests", async () => {
        const told = await ask("POST", "/api/rules/test", {});
        fill(result, h("p", { class: told.passed ? "good" : "bad" }, told.passed ? "All hold." : "Some do not hold."),
          told.tests.filter((one) => !one.passed).map((one) => h("p", {}, `${one.name}: ${one.why}`)));
      })), result,
      form({ class: "stack" }, async () => {
        await change("POST", "/api/rules/tests", { tests: { [name.value.trim()]: { request: JSON.parse(request.value), expect: JSON.parse(expect.value) } } });
        notice("The test is kept; every edit runs it.");
      }, h("h3", {}, "A new test"), field("Name", name), field("Request (JSON)", request), field("Expected (JSON)", expect), h("button", {}, "Keep the test"))));
  }

  const stop = state.on(["rules"], () => { if (state.get("rules") !== version) load().catch(complain); });
  if (state.get("rules") === undefined) load().catch(complain);
  return stop;
}

function explainBox() {
  const inputs = Object.fromEntries([["model", "Model", "spore"], ["task", "Task", "chat"], ["characters", "Characters", "0"], ["key", "API key", ""],
    ["user", "User", ""], ["labels", "Labels of yours", ""], ["added", "Labels that it adds", ""], ["client", "Client's address", ""], ["route", "Route", ""]]
    .map(([name, label, value]) => [name, [label, h("input", { name, value, autocapitalize: "none" })]]));
  const result = h("div", { "aria-live": "polite" });
  const text = (name) => inputs[name][1].value.trim();
  const list = (name) => text(name).split(",").map((one) => one.trim()).filter(Boolean);
  return h("section", { class: "card" }, h("h2", {}, "Where would this go?"),
    form({ class: "grid" }, async () => {
      const request = { model: text("model"), task: text("task") || "chat", characters: Number(text("characters") || 0), labels: list("labels"), added: list("added") };
      for (const name of ["key", "user", "client"]) if (text(name)) request[name] = text(name);
      fill(result, explained(await ask("POST", "/api/rules/explain", { request, route: text("route") || null })));
    }, Object.values(inputs).map(([label, input]) => field(label, input)), h("button", { class: "main" }, "Explain")), result);
}

/** A decision with its reasons. */
function explained(told) {
  return h("div", { class: "stack", "data-explained": told.rule ?? "" },
    h("p", {}, badge(told.allowed ? (told.ask_s ? "asks first" : "allowed") : "refused", told.allowed ? (told.ask_s ? "warn" : "good") : "bad"), " ", told.reason),
    facts([["Rule", told.rule], ["Limited by", told.limit], ["Waits for my yes", told.ask_s ? `${told.ask_s} s` : null],
      ["Would run on", (told.stages ?? []).map((one) => `${one.node} ${layers(one.layers)}`).join(" + ") || told.tool_node || null],
      ["Endpoint", told.endpoint ? `${told.endpoint.name} (${told.endpoint.place}), model ${told.endpoint.model}` : null],
      ["Predicted", rate(told.predicted_tokens_per_s)], ["Note", told.note], ["Code", told.code]]),
    told.nodes?.length ? table(["Node", "", "Why"], told.nodes.map((one) => [one.name, one.chosen ? badge("chosen", "good") : "", one.reason])) : null,
    told.passed_rules?.length ? table(["Earlier rule", "Did not match because"], told.passed_rules.map((one) => [one.rule, one.because])) : null,
    told.tried?.length ? table(["Tried", "Could not be done because"], told.tried.map((one) => [one.action, one.because])) : null);
}

/** Where a past request went, or would go: a text, or what is in an object. */
function words(value) {
  return typeof value === "string" ? value : Object.values(value ?? {}).flat().filter((one) => typeof one === "string").join(", ");
}

function replayBox() {
  const last = h("input", { type: "number", min: 1, max: 10000, value: 1000 });
  const within = h("select", {}, [["604800", "The last 7 days"], ["86400", "The last day"], ["", "However old"]].map(([value, label]) => h("option", { value }, label)));
  const result = h("div", { "aria-live": "polite" });
  return h("details", { class: "card" }, h("summary", {}, "What would the last requests have done?"),
    form({ class: "row" }, async () => {
      const told = await ask("POST", "/api/rules/replay", { last: Number(last.value), ...within.value && { within_s: Number(within.value) } });
      fill(result, facts([["Requests looked at", String(told.requests)], ["Since", told.since === null ? null : when(told.since)],
        ["Would go where they went", String(told.same)]]), told.is_cut ? h("p", { class: "warn" }, "There are older ones that were not looked at.") : null,
        told.moved.length ? table(["When", "Model", "Was", "Would be", "Why"], told.moved.slice(0, 100).map((one) =>
          [when(one.at), one.model, words(one.was), words(one.now), `${one.change}: ${one.why}`])) : h("p", {}, "None would move."));
    }, field("Asked in", within), field("Requests at most", last), h("button", {}, "Replay")), result);
}
