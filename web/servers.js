// MCP servers and which of their tools agents may be given, as a part of the view Agents.

import { action, badge, complain, facts, field, fill, form, h, notice, sure } from "./dom.js";
import { when } from "./format.js";
import { ask } from "./net.js";

/** The section as an element. */
export function servers() {
  const list = h("div", {});
  const name = h("input", { required: true, pattern: "[a-z0-9-]{1,40}" });
  const command = h("input", { placeholder: "python3 -m mcp_server_time" });
  const url = h("input", { type: "url", placeholder: "http://192.168.1.9:8000/mcp" });
  const place = h("select", {}, ["LAN", "outside"].map((one) => h("option", { value: one }, one)));
  const secrets = h("textarea", { rows: 2, placeholder: "NAME=VALUE, one a line", autocomplete: "off", spellcheck: "false" });
  const element = h("section", {}, h("h2", {}, "MCP servers"), h("p", { class: "soft" },
    "Their tools are off until you allow each, and off again when a server changes what a tool says of itself."), list,
    h("details", { class: "card" }, h("summary", {}, "New MCP server"), form({ class: "grid" }, async () => {
      const pairs = secrets.value.split("\n").filter((line) => line.includes("=")).map((line) => [line.slice(0, line.indexOf("=")).trim(),
        line.slice(line.indexOf("=") + 1)]);
      await ask("POST", "/api/mcp", { name: name.value.trim(), command: command.value.trim().split(/\s+/).filter(Boolean),
        url: url.value.trim() || null, place: place.value, secrets: Object.fromEntries(pairs) }, { limit: 120 });
      secrets.value = "";
      notice("The server is registered; now allow its tools.");
      await load();
    }, field("Name", name), field("Command (runs in the sandbox)", command), field("Or its address", url), field("Place of the address", place),
    field("Environment of the command, or headers", secrets, { class: "whole" }), h("button", { class: "main" }, "Register"))));

  async function load() {
    const { servers: all } = await ask("GET", "/api/mcp");
    const known = await Promise.all(all.map((one) => ask("GET", path(one.name))));
    fill(list, known.map(server));
  }

  const path = (server_, rest = "") => `/api/mcp/${encodeURIComponent(server_)}${rest}`;
  const change = async (server_, how, tools) => { await ask("POST", path(server_, `/${how}`), tools ? { tools } : {}, { limit: 120 }); await load(); };

  function server(one) {
    return h("section", { class: "card", "data-server": one.name }, h("div", { class: "row wide" }, h("h3", {}, one.name),
      one.place ? badge(one.place, one.place) : badge("sandbox")),
      facts([["Command", one.command.join(" ")], ["Address", one.url], ["Secrets", one.secrets.join(", ")], ["Looked at",
        one.looked_at ? when(one.looked_at) : "not yet"]]),
      one.tools.map((tool) => h("details", { "data-tool": tool.whole_name }, h("summary", {}, h("code", {}, tool.whole_name ?? tool.name), " ",
        badge(tool.is_on ? "allowed" : "off", tool.is_on ? "good" : ""), tool.before ? badge("changed since it was allowed", "warn") : null,
          tool.is_there ? null : badge("gone", "bad")),
      tool.fault ? h("p", { class: "bad" }, tool.fault) : null, h("p", {}, tool.description), h("pre", { tabindex: "0" }, JSON.stringify(tool.schema, null, 1)),
      tool.before ? [h("p", {}, "It was allowed as:"), h("pre", { tabindex: "0" }, `${tool.before.description}\n${JSON.stringify(tool.before.schema, null, 1)}`)] : null,
      tool.is_on ? action("Forbid", () => change(one.name, "forbid", [tool.name]), "risky") : tool.fault ? null : action("Allow as it is now",
        () => change(one.name, "allow", [tool.name]), "main"))),
      h("div", { class: "row" }, action("Ask for its tools anew", () => change(one.name, "refresh"), "plain"), action("Remove", async () => {
        if (!sure(`Forget the server ${one.name} and its secrets?`)) return;
        await ask("DELETE", path(one.name));
        await load();
      }, "plain risky", { "aria-label": `Remove ${one.name}` })));
  }

  load().catch(complain);
  return element;
}
