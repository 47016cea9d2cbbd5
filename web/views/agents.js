// Agents, their runs step by step, and their schedules.

import { action, badge, complain, each, facts, field, fill, form, h, notice, onChange, sure, table } from "../dom.js";
import { waiting } from "../approvals.js";
import { seconds, when } from "../format.js";
import { library } from "../library.js";
import { ask, lines } from "../net.js";
import { servers } from "../servers.js";
import { take } from "../talk.js";

const FRESH = 'name = "scout"\nmodel = "spore"\nsystem = "Answer briefly."\ntools = ["calculator", "read_*"]\n\n[budget]\nmax_steps = 6\ntokens = 400\nseconds = 120\n';

const FOLLOW_MS = 1000;
let running = null; // the run begun here, also while another view is open: there may be the yes that it waits for
const live = h("div", {});

export function open(main, { state }) {
  const pending = waiting(state, (one) => one.task?.startsWith("tool:") || one.task === "agent");
  const agents = h("div", { class: "cards" });
  const editor = h("div", {});
  const schedules = h("div", {});
  const runs = h("div", {});
  const shown = h("div", {});
  let names = [];
  let looks = 0;
  let later = null;
  fill(main, h("h1", {}, "Agents"), pending.element, agents, h("div", { class: "row" }, action("New agent file", () => edit("", FRESH))), editor, live,
    h("h2", {}, "Schedules"), schedules, h("h2", {}, "Runs"), runs, shown, library(), servers());

  async function load() {
    const told = await ask("GET", "/api/agents");
    names = told.agents.filter((one) => !one.fault).map((one) => one.name);
    fill(agents, told.agents.map(card));
    drawSchedules(state.get("schedules") ?? []);
  }

  function card(one) {
    const task = h("textarea", { rows: 2, required: true, "aria-label": `Task for ${one.name}`, placeholder: "what it is to do" });
    const labels = h("input", { "aria-label": `Labels for ${one.name}`, placeholder: "labels: private" });
    return h("section", { class: "card", "data-agent": one.name },
      h("div", { class: "row wide" }, h("h3", {}, one.name), one.is_own ? badge("yours") : badge("built in")),
      one.fault ? h("p", { class: "bad" }, one.fault) : [
        h("p", {}, one.description),
        facts([["Model", one.model], ["Tools", one.tools.join(", ") || "none"], ["Labels", one.labels.join(", ")],
          ["Certificate needed", one.certificate === null ? null : `${one.certificate} %`],
          ["Budget", `${one.budget.max_steps} steps, ${one.budget.tokens} tokens, ${seconds(one.budget.seconds)}`]]),
        form({ class: "stack" }, () => { run(one.name, task.value.trim(), labels.value.trim()); }, task, labels, h("button", { class: "main" }, "Run"))],
      h("div", { class: "row" },
        action("File", async () => edit(one.name, (await ask("GET", `/api/agents/${encodeURIComponent(one.name)}`)).toml ?? ""), "plain"),
        one.is_own ? action("Remove", async () => {
          if (!sure(`Remove the agent ${one.name}? Its runs stay.`)) return;
          await ask("DELETE", `/api/agents/${encodeURIComponent(one.name)}`);
          await load();
        }, "plain risky") : null));
  }

  function edit(name, toml) {
    const title = h("input", { value: name, required: true, pattern: "[a-z0-9-]{1,64}" });
    const text = h("textarea", { rows: 12, class: "mono", value: toml, spellcheck: "false" });
    fill(editor, form({ class: "card stack", "aria-label": "Agent file" }, async () => {
      await ask("PUT", `/api/agents/${encodeURIComponent(title.value.trim())}`, { toml: text.value });
      fill(editor);
      notice("The agent file is kept.");
      await load();
    }, field("Name", title), field("The file (docs/agents.md)", text),
    h("div", { class: "row" }, h("button", { class: "main" }, "Keep"), h("button", { type: "button", onclick: () => fill(editor) }, "Cancel"))));
    title.focus();
  }

  async function run(name, task, labels) {
    if (running) return notice("A run is shown already; stop it first.");
    running = new AbortController();
    const turn = { text: "", steps: [], isOpen: true };
    const draw = () => fill(live, h("section", { class: "card", "aria-label": "The run now", "aria-live": "polite" },
      h("div", { class: "row wide" }, h("h3", {}, `${name}: ${task}`), turn.isOpen ? h("button", { type: "button", class: "risky",
        onclick: () => running?.abort() }, "Stop") : badge(turn.end ?? "ended")),
      turn.steps.map(step), turn.text ? h("p", {}, turn.text) : null,
      turn.error ? h("p", { class: "bad" }, `${turn.error.message} (${turn.error.code})`) : null));
    draw();
    try {
      const headers = labels ? { "x-mycoswarm-labels": labels } : {};
      for await (const event of lines("POST", `/api/agents/${encodeURIComponent(name)}/run`, { task }, { signal: running.signal, headers })) {
        take(turn, event);
        draw();
      }
    } catch (error) {
      if (error.name === "AbortError") turn.end = "stopped";
      else turn.error = error;
    } finally {
      turn.isOpen = false;
      running = null;
      draw();
    }
  }

  const drawRuns = onChange(runs, (all) => all.length === 0 ? h("p", { class: "soft" }, "No runs yet. Give an agent above a task, or a schedule.")
    : table(["Began", "Agent", "Task", "By", "How it ended", "Tokens", ""], all.map((one) => [when(one.started_at), one.agent, one.task.slice(0, 120), one.asked_by,
      badge(one.how ?? one.state, one.state === "finished" ? "good" : one.state === "running" ? "warn" : "bad"), String(one.completion_tokens ?? 0),
      h("span", { class: "row" }, action("Steps", () => show(one.id), "plain", { "aria-label": `Steps of the run ${one.id}` }),
        one.state === "running" ? action("Stop", () => ask("POST", `/api/runs/${one.id}/stop`, {}), "plain risky") : null)]), "Runs"));

  async function show(id) {
    const [head, steps, answer] = Array.from({ length: 3 }, () => h("div", {}));
    const showHead = onChange(head, facts);
    const showAnswer = onChange(answer, (text) => text && h("p", {}, text));
    const showSteps = each(steps, ([, index]) => index, ([one]) => ({ element: happened(one.body ?? one, "") }));
    clearTimeout(later);
    const own = ++looks;
    const look = async (isFirst) => { // one that goes on, here or started elsewhere, is followed to its end
      const told = await ask("GET", `/api/runs/${encodeURIComponent(id)}`);
      if (own !== looks) return;
      if (isFirst) fill(shown, h("section", { class: "card", "aria-label": `Run ${id}` }, h("h3", {}, `Run ${id} of ${told.agent}`), head, steps, answer));
      showHead([["State", told.state], ["Task", told.task], ["Model", told.model], ["Labels", told.labels.join(", ")], ["Began", when(told.started_at)],
        ["Ended", told.ended_at ? when(told.ended_at) : null], ["Message", told.message], ["Steps", String(told.steps)],
        ["Tokens", `${told.prompt_tokens} read, ${told.completion_tokens} written`]]);
      showSteps(told.events.map((one, index) => [one, index]));
      showAnswer(told.answer ?? "");
      if (isFirst) shown.scrollIntoView({ block: "nearest" });
      if (told.state === "running") later = setTimeout(() => look(false).catch(complain), FOLLOW_MS);
    };
    await look(true);
  }

  function drawSchedules(all) {
    const cron = h("input", { value: "0 7 * * *", required: true });
    const zone = h("input", { value: Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC" });
    const agent = h("select", {}, names.map((name) => h("option", { value: name }, name)));
    const task = h("input", { required: true });
    const labels = h("input", { placeholder: "private" });
    fill(schedules,
      all.length ? table(["Times", "Agent", "Task", "Last run", "Next", ""], all.map((one) => [h("code", {}, `${one.cron} ${one.zone}`), one.agent, one.task,
        one.state ? `${one.state}${one.message ? `: ${one.message}` : ""}` : "none yet", one.is_paused ? badge("paused", "warn") : when(one.next_at),
        h("span", { class: "row" },
          one.is_paused ? action("Resume", () => ask("POST", `/api/schedules/${one.id}/resume`, {}), "plain") : action("Pause", () => ask("POST",
            `/api/schedules/${one.id}/pause`, {}), "plain"),
          action("Remove", () => ask("DELETE", `/api/schedules/${one.id}`), "plain risky"))]), "Schedules") : h("p", { class: "soft" }, "No schedules. With one, an agent works by itself at set times."),
      h("details", { class: "card" }, h("summary", {}, "New schedule"), form({ class: "grid" }, async () => {
        await ask("POST", "/api/schedules", { cron: cron.value.trim(), zone: zone.value.trim() || "UTC", agent: agent.value, task: task.value.trim(),
          labels: labels.value.split(",").map((one) => one.trim()).filter(Boolean) });
        notice("The schedule is kept.");
      }, field("Minute, hour, day, month, weekday", cron), field("Time zone", zone), field("Agent", agent), field("Task", task), field("Labels",
        labels), h("button", { class: "main" }, "Keep"))));
  }

  const showSchedules = onChange(h("div"), (all) => { drawSchedules(all); });
  load().catch(complain);
  const stops = [pending.stop, state.on(["runs"], () => drawRuns(state.get("runs") ?? [])), state.on(["schedules"], () => showSchedules(state.get("schedules") ?? []))];
  return () => { stops.forEach((stop) => stop()); looks += 1; clearTimeout(later); };
}

function step(one) {
  return h("details", { "data-tool": one.tool, open: one.isShown, ontoggle: (event) => { one.isShown = event.target.open; } },
    h("summary", {}, one.agent ? `[${one.agent}] ` : "", h("code", {}, one.tool), " ",
      badge(one.isOpen ? "runs" : one.ok ? "done" : "failed", one.isOpen ? "warn" : one.ok ? "good" : "bad"), one.node ? ` on ${one.node}, ${seconds(one.seconds)}` : ""),
    h("pre", { tabindex: "0" }, one.arguments), one.text === undefined ? null : h("pre", { tabindex: "0" }, one.text));
}

/** One thing that happened in a past run. */
function happened(one, agent) {
  if (one.event === "sub_agent") return happened(one.told, `${agent}${one.name} ${one.agent} `);
  if (one.event === "result") return step({ ...one, agent: agent.trim() });
  const { event, ...rest } = one;
  return h("p", { class: "small" }, agent ? `[${agent.trim()}] ` : "", h("strong", {}, event), " ",
    Object.entries(rest).filter(([, value]) => value !== null && value !== "").map(([name,
      value]) => `${name} ${Array.isArray(value) ? value.join(", ") : value}`).join(" · "));
}
