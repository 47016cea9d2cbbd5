// The frame: signing in, the views, and what stands above all of them.

import { action, badge, complain, field, fill, form, h, notice, onChange } from "./dom.js";
import { follow, session, signIn, signOut, whenOver } from "./net.js";
import { State } from "./state.js";

// name, title, for owners only
const VIEWS = [
  ["swarm", "Swarm", true],
  ["chat", "Chat", false],
  ["rules", "Rules", true],
  ["models", "Models", true],
  ["agents", "Agents", true],
  ["requests", "Requests", true],
  ["settings", "Settings", true],
];

const frame = document.getElementById("frame");
let leave = () => {};

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // a hash of its own would be another view
  document.getElementById("main")?.focus();
});
addEventListener("keydown", (event) => {
  if (event.key === "Escape") document.getElementById("notices").firstElementChild?.querySelector("button").click();
});
whenOver(() => { if (document.querySelector("main")) start(); });
start();

async function start() {
  leave();
  leave = () => {};
  try {
    const told = await session();
    if (told) show(told);
    else showSignIn();
  } catch (error) {
    fill(frame, h("div", { class: "signin" }, h("h1", {}, "mycoSwarm"), h("p", { class: "bad" }, error.message),
      h("p", {}, error.hint ?? ""), h("button", { class: "main", type: "button", onclick: start }, "Try again")));
  }
}

function showSignIn() {
  document.title = "Sign in · mycoSwarm";
  const user = h("input", { class: "hidden", autocomplete: "username", value: "mycoswarm", tabindex: "-1", "aria-hidden": "true" });
  const input = h("input", { name: "given", type: "password", autocomplete: "current-password", required: true });
  const code = h("input", { type: "checkbox", name: "is-code" });
  fill(frame, h("main", { class: "signin", id: "main" },
    h("h1", {}, "mycoSwarm"),
    form({ class: "stack" }, async () => {
      const text = input.value.trim();
      const told = await signIn(code.checked ? { setup_code: text } : { key: text });
      if (told.new_key) showNewKey(told);
      else show(told);
    },
    user, field("API key, or the setup code that the device shows", input),
    h("label", {}, code, "This is a setup code"),
    h("button", { class: "main" }, "Sign in"),
    h("p", { class: "soft small" }, "Keys are made on the node itself: ", h("code", {}, "mycoswarm-node keys create NAME --owner")))));
  input.focus();
}

function showNewKey(told) {
  fill(frame, h("main", { class: "signin stack", id: "main" }, h("h1", {}, "Your first key"),
    h("p", {}, "The setup code is used up. Keep this owner's key: it is shown this once, and opens the dashboard in other browsers."),
    h("pre", {}, told.new_key),
    h("button", { class: "main", type: "button", onclick: () => show(told) }, "I have kept it")));
}

function show(told) {
  document.activeElement?.blur(); // what was pressed here is another thing there
  const state = new State();
  const views = VIEWS.filter(([, , isOwners]) => told.is_owner || !isOwners);
  const main = h("main", { id: "main", tabindex: "-1" });
  const nav = h("nav", { class: "views", "aria-label": "Views" },
    views.map(([name, title]) => h("a", { href: `#${name}` }, title)));
  const away = h("div", { class: "away", role: "alert", hidden: true }, "The node does not answer. This page tries again and goes on when it is back.");
  const name = h("span", { class: "soft" });
  const asking = h("span", {});
  fill(frame,
    h("header", { class: "top" }, h("img", { src: "/web/icon.svg", alt: "" }), h("strong", {}, "mycoSwarm"), name,
      h("div", { class: "end" }, asking, h("span", { class: "soft small" }, told.key ?? "owner"),
        action("Sign out", async () => { await signOut(); location.reload(); }, "plain"))),
    nav, away, main);
  let stop = () => {};
  let number = 0;
  const turn = async () => {
    const wanted = location.hash.slice(1).split("/")[0];
    const [view, title] = views.find(([one]) => one === wanted) ?? views[0];
    for (const link of nav.children) {
      if (link.hash !== `#${view}`) { link.removeAttribute("aria-current"); continue; }
      link.setAttribute("aria-current", "page");
      nav.scrollLeft = link.offsetLeft - nav.offsetLeft - 40; // on a phone they do not all fit
    }
    document.title = `${title} · mycoSwarm`;
    stop();
    stop = () => {};
    const own = ++number;
    fill(main, h("h1", {}, title));
    try {
      const room = await import(`./views/${view}.js`);
      if (own !== number) return;
      stop = room.open(main, { state, session: told }) ?? (() => {});
    } catch (error) {
      complain(error);
    }
  };
  addEventListener("hashchange", turn);
  let unfollow = () => {};
  if (told.is_owner) {
    let wasAway = false;
    unfollow = follow((sections) => state.take(sections), (isThere) => {
      away.hidden = isThere;
      if (isThere && wasAway) notice("The node is back.");
      wasAway = !isThere;
    });
    state.on(["node"], () => fill(name, `${state.get("node").name} · ${state.get("node").role}`));
    const tell = onChange(asking, (waiting) => waiting > 0 &&
      h("a", { href: "#requests" }, badge(`${waiting} wait for your yes`, "warn")));
    state.on(["approvals", "adoptions"], () => tell((state.get("approvals") ?? []).length));
  }
  leave = () => { number += 1; stop(); unfollow(); removeEventListener("hashchange", turn); };
  turn();
}

