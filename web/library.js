// The library and the memory of runs, as a part of the view Agents.

import { action, badge, complain, facts, field, fill, form, h, notice, sure, table } from "./dom.js";
import { count, when } from "./format.js";
import { ask } from "./net.js";

/** The section as an element. */
export function library() {
  const folders = h("div", {});
  const shown = h("div", {});
  const hits = h("div", { "aria-live": "polite" });
  const notes = h("div", {});
  const query = h("input", { required: true, placeholder: "words to look for" });
  const path = h("input", { required: true, placeholder: "/home/me/notes" });
  const name = h("input", {});
  const labels = h("input", { placeholder: "private" });
  const element = h("section", {}, h("h2", {}, "Library"), folders, shown,
    form({ class: "card row" }, async () => {
      const told = await ask("POST", "/api/library/search", { query: query.value.trim() });
      fill(hits, told.hits.length ? told.hits.map((one) => h("section", { class: "card" }, h("p", { class: "soft small" }, one.place, " ",
        one.labels.map((label) => badge(label))),
        h("pre", { tabindex: "0" }, one.text))) : h("p", {}, "Nothing found."));
    }, field("Search documents and notes", query), h("button", {}, "Search")), hits,
    h("details", { class: "card" }, h("summary", {}, "Add a folder of documents"), form({ class: "grid" }, async () => {
      await ask("POST", "/api/library", { folder: path.value.trim(), name: name.value.trim() || null,
        labels: labels.value.split(",").map((one) => one.trim()).filter(Boolean) });
      notice("The folder is being read.");
      await load();
    }, field("Folder on this node", path), field("Name", name), field("Labels of all that is in it", labels), h("button", { class: "main" }, "Add"))), notes);

  async function load() {
    const [told, kept] = await Promise.all([ask("GET", "/api/library"), ask("GET", "/api/notes")]);
    fill(folders, told.folders.length ? table(["Name", "Folder", "Labels", "Files", "Passages", "State", ""], told.folders.map((one) => [one.name,
      one.path, one.labels.map((label) => badge(label)),
      count(one.files), count(one.passages), badge(one.state, one.fault ? "bad" : "good"), h("span", { class: "row" },
        action("Files", () => show(one.name), "plain", { "aria-label": `Files of ${one.name}` }),
        action("Read anew", async () => { await ask("POST", `/api/library/${encodeURIComponent(one.name)}/refresh`, {}); await load(); }, "plain",
          { "aria-label": `Read ${one.name} anew` }),
        action("Remove", async () => {
          if (!sure(`Forget all passages of ${one.name}? The files stay.`)) return;
          await ask("DELETE", `/api/library/${encodeURIComponent(one.name)}`);
          await load();
        }, "plain risky", { "aria-label": `Remove ${one.name}` }))]), "Folders of documents") : h("p", { class: "soft" },
          "No folders. Agents with the tool recall find passages of folders that are added here."));
    fill(notes, kept.notes.length ? [h("h3", {}, "What runs remembered"), table(["Note", "Labels", "Run", "When", ""],
      kept.notes.map((one) => [one.text, one.labels.map((label) => badge(label)), one.run_id, when(one.at),
      action("Forget", async () => { await ask("DELETE", `/api/notes/${encodeURIComponent(one.id)}`); await load(); }, "plain risky",
        { "aria-label": `Forget the note ${one.id}` })]), "Notes")] : null);
  }

  async function show(folder) {
    const told = await ask("GET", `/api/library/${encodeURIComponent(folder)}`);
    fill(shown, h("section", { class: "card", "aria-label": `Files of ${folder}` }, facts([["Folder", told.path], ["Read",
      told.read_at ? when(told.read_at) : "not yet"], ["Trouble", told.fault]]),
      table(["File", "Passages", "Trouble"], told.listed.slice(0, 500).map((one) => [one.path, count(one.passages), one.fault ?? ""])),
        action("Close", () => fill(shown))));
  }

  load().catch(complain);
  return element;
}
