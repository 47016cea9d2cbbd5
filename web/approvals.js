// What more than one view shows: requests that wait for the owner's yes, trouble, places.

import { action, badge, each, facts, h } from "./dom.js";
import { when } from "./format.js";
import { ask } from "./net.js";

/** Say yes or no to one. */
export async function answer(id, allow) {
  await ask("POST", `/api/approvals/${encodeURIComponent(id)}`, { allow });
}

/** One that waits, with what it would do and its two buttons. */
export function approval(one) {
  return h("section", { class: "card asking", "aria-label": "Waits for your yes", "data-approval": one.id },
    h("h3", {}, one.task?.startsWith("tool:") ? `May ${one.task.slice(5)} run on ${one.destination}?` : `May this go to ${one.destination}?`),
    facts([["Task", one.task], ["Model", one.task?.startsWith("tool:") ? null : one.model], ["Rule", one.rule],
      ["Asked by", one.key ?? "the owner"], ["Labels", (one.labels ?? []).join(", ")],
      ["Characters", one.characters], ["No answer is a no at", one.expires_at ? when(one.expires_at) : null]]),
    one.detail ? h("pre", { tabindex: "0" }, one.detail) : null,
    h("div", { class: "row" },
      action("Allow once", () => answer(one.id, true), "main"),
      action("Refuse", () => answer(one.id, false), "risky")));
}

/** All that wait, kept up to date; gives the element and the way to stop. `matches` chooses some. */
export function waiting(state, matches = () => true) {
  const element = h("div", { class: "stack" });
  const draw = each(element, (one) => one.id, (one) => ({ element: approval(one) }));
  const stop = state.on(["approvals"], () => draw((state.get("approvals") ?? []).filter(matches)));
  return { element, stop };
}

/** What is wrong, in the node's words: cause, cure, code. */
export function trouble(one) {
  return h("section", { class: "card trouble" }, h("h3", {}, one.message), h("p", {}, one.hint), h("p", { class: "soft small mono" }, one.code));
}

/** A place as a badge: this machine, this LAN, or outside. */
export function placeBadge(place) {
  const words = { "this-machine": "this machine", LAN: "LAN", outside: "outside" };
  return place ? badge(words[place] ?? place, place) : null;
}
