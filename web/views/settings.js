// Keys, endpoints, new machines, what protects this node, and what it is.

import { action, badge, complain, facts, field, fill, form, h, notice, sure, table } from "../dom.js";
import { trouble } from "../approvals.js";
import { seconds, when } from "../format.js";
import { ask } from "../net.js";
import { code } from "../qr.js";

export function open(main, { state }) {
  const keys = h("div", {});
  const secret = h("div", { "aria-live": "polite" });
  const endpoints = h("div", {});
  const token = h("div", { "aria-live": "polite" });
  const doctor = h("div", {});
  const about = h("div", {});
  fill(main, h("h1", {}, "Settings"), h("h2", {}, "API keys"), secret, keys, h("h2", {}, "Endpoints outside the swarm"), endpoints,
    h("h2", {}, "Add a machine"), machine(token), h("h2", {}, "Doctor"), doctor, h("h2", {}, "About"), about);

  async function loadKeys() {
    const { keys: all } = await ask("GET", "/api/keys");
    const name = h("input", { required: true, maxlength: 64 });
    const labels = h("input", { placeholder: "private" });
    const user = h("input", {});
    const requests = h("input", { type: "number", min: 1 });
    const tokens = h("input", { type: "number", min: 1 });
    const owner = h("input", { type: "checkbox" });
    fill(keys, all.length ? table(["Name", "May", "Labels", "User", "Limits", "Made", "Last used", ""], all.map((one) => [one.name,
      one.is_owner ? badge("everything", "warn") : badge("ask models"),
      one.labels.join(", "), one.user ?? "", [one.requests_per_minute && `${one.requests_per_minute} requests/min`,
        one.tokens_per_day && `${one.tokens_per_day} tokens/day`].filter(Boolean).join(", "),
      when(one.made_at), when(one.used_at), action("Revoke", async () => {
        if (!sure(`End the key ${one.name} at once?`)) return;
        await ask("DELETE", `/api/keys/${encodeURIComponent(one.name)}`);
        await loadKeys();
      }, "plain risky", { "aria-label": `Revoke ${one.name}` })]), "API keys") : h("p", { class: "soft" }, "No keys yet. Programs that ask the swarm need one each."),
    h("details", { class: "card" }, h("summary", {}, "New key"), form({ class: "grid" }, async () => {
      const told = await ask("POST", "/api/keys", { name: name.value.trim(), labels: labels.value.split(",").map((one) => one.trim()).filter(Boolean),
        user: user.value.trim() || null,
        is_owner: owner.checked, requests_per_minute: requests.value ? Number(requests.value) : null, tokens_per_day: tokens.value ? Number(tokens.value) : null });
      fill(secret, h("section", { class: "card asking" }, h("p", {}, `The key ${told.name}, shown this once:`), h("pre", { "data-secret": "" },
        told.key), action("Hide it", () => fill(secret))));
      await loadKeys();
    }, field("Name", name), field("Labels on all its requests", labels), field("User", user), field("Requests per minute", requests), field("Tokens per day", tokens),
    h("label", {}, owner, "An owner's key: may change everything"), h("button", { class: "main" }, "Make"))));
  }

  async function loadEndpoints() {
    const { endpoints: all } = await ask("GET", "/api/endpoints");
    const name = h("input", { required: true });
    const url = h("input", { required: true, type: "url", placeholder: "http://192.168.1.9:8000/v1" });
    const key = h("input", { type: "password", autocomplete: "off" });
    const place = h("select", {}, ["LAN", "outside"].map((one) => h("option", { value: one }, one)));
    const check = h("input", { type: "checkbox", checked: true });
    fill(endpoints, h("p", { class: "soft" }, "Nothing is sent to an endpoint unless a rule names it."),
      all.length ? table(["Name", "Address", "Place", "Models", "Rules that name it", ""], all.map((one) => [one.name, one.url, badge(one.place,
        one.place), one.models.join(", "), one.rules.join(", ") || "none",
        action("Remove", async () => {
          if (!sure(`Forget the endpoint ${one.name} and its key?`)) return;
          await ask("DELETE", `/api/endpoints/${encodeURIComponent(one.name)}`);
          await loadEndpoints();
        }, "plain risky", { "aria-label": `Remove ${one.name}` })]), "Endpoints") : null,
      h("details", { class: "card" }, h("summary", {}, "New endpoint"), form({ class: "grid" }, async () => {
        await ask("POST", "/api/endpoints", { name: name.value.trim(), url: url.value.trim(), place: place.value, secret: key.value || null, check: check.checked });
        notice("The endpoint is registered. Now a rule may name it.");
        await loadEndpoints();
      }, field("Name", name), field("Address", url), field("Its API key", key), field("Place", place), h("label", {}, check, "Try it first"),
        h("button", { class: "main" }, "Register"))));
  }

  async function loadDoctor() {
    const { sandbox, egress, listens, machine: rows, folder, findings, conditions } = await ask("GET", "/api/doctor");
    const wrong = [...conditions, ...findings];
    const opened = Object.entries(egress.open).map(([purpose, number]) => `${purpose}: ${number}`).join(", ");
    fill(doctor, wrong.length ? wrong.map(trouble) : h("p", { class: "good" }, "Nothing is wrong on this node."), h("section", { class: "card" },
      facts([["Sandbox of tools", `${sandbox.level}${sandbox.why ? `: ${sandbox.why}` : ""}`], ["Workspaces kept", String(sandbox.workspaces)],
        ["Egress guard", egress.active ? "on" : "off"], ["Addresses and names open now", opened || "none"], ["Listens for nodes", `at port ${listens.peer_port}`],
        ["Door for new machines", listens.door_port === null ? "shut" : `at port ${listens.door_port}`], ["Data folder", folder], ...(rows ?? [["Machine", "not looked at yet"]])]),
      h("details", {}, h("summary", {}, "What the sandbox covers, and what not"), h("ul", {}, sandbox.covers.map((one) => h("li", {}, one))), h("p",
        {}, "Not covered:"), h("ul", {}, sandbox.lacks.map((one) => h("li", {}, one)))), action("Look again", loadDoctor)));
  }

  Promise.all([loadKeys(), loadEndpoints(), loadDoctor()]).catch(complain);
  return state.on(["node"], () => {
    const node = state.get("node");
    fill(about, h("section", { class: "card" }, facts([["Node", node.name], ["mycoSwarm", node.version], ["llama.cpp binding", node.llama_version], ["Role", node.role], ["Node id", node.node_id], ["Swarm id",
      node.swarm_id], ["Console", node.console], ["Peer port", String(node.peer_port)]])));
  });
}

function machine(box) {
  const uses = h("input", { type: "number", min: 1, max: 100, value: 1 });
  const minutes = h("input", { type: "number", min: 1, max: 1440, value: 15 });
  return h("section", { class: "card stack" }, h("p", {}, "Machines on this network announce themselves: adopt them in the view Swarm. Or make a token for one that does not:"),
    form({ class: "grid" }, async () => {
      const told = await ask("POST", "/api/token", { lifetime_s: 60 * Number(minutes.value), uses: Number(uses.value) });
      const picture = told.qr ? code(told.qr, "The token as a QR code") : null;
      fill(box, h("p", {}, "There: ", h("code", {}, "mycoswarm-node join TOKEN"), `. It holds for ${seconds(60 * Number(minutes.value))}.`), picture,
        h("pre", { tabindex: "0", "data-token": "" }, told.token), action("Hide it", () => fill(box)));
    }, field("Uses", uses), field("Minutes", minutes), h("button", { class: "main" }, "Make a token")), box);
}
