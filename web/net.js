// The one file that speaks to the node: questions, streams of lines, and the stream of what changes.

let csrf = null;
let onOver = () => {};

/** An error of the node: what happened, what to do, and its code. */
export class NodeError extends Error {
  constructor(status, body) {
    const told = body?.error ?? {};
    super(told.message ?? `The node answered ${status}.`);
    this.status = status;
    this.code = told.code ?? null;
    this.hint = told.hint ?? "";
  }
}

/** `callback` is run when the session is over. */
export function whenOver(callback) {
  onOver = callback;
}

/** Ask the node for JSON. Waits for `limit` seconds at most. */
export async function ask(method, path, body = undefined, { limit = 60, headers = {} } = {}) {
  const answer = await send(method, path, body, { headers, signal: AbortSignal.timeout(limit * 1000) });
  const text = await answer.text();
  return text ? JSON.parse(text) : {};
}

/** Ask, and hand over each line of the answer as JSON (JSON lines, or the data of server-sent events). */
export async function* lines(method, path, body, { signal = undefined, headers = {} } = {}) {
  const answer = await send(method, path, body, { headers, signal });
  const about = Object.fromEntries(answer.headers);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    yield { headers: about };
    for (;;) {
      const { value, done } = await reader.read();
      const parts = (rest + (value ?? "")).split("\n");
      rest = done ? "" : parts.pop();
      for (const part of parts) {
        const text = part.startsWith("data:") ? part.slice(5).trim() : part.startsWith("{") ? part : "";
        if (text && text !== "[DONE]") yield JSON.parse(text);
      }
      if (done) return;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

async function send(method, path, body, { headers, signal }) {
  const all = { ...headers };
  if (body !== undefined) all["content-type"] = "application/json";
  if (csrf && method !== "GET") all["x-csrf-token"] = csrf;
  let answer;
  try {
    answer = await fetch(path, {
      method, headers: all, signal, redirect: "error", cache: "no-store", credentials: "same-origin",
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    const late = error.name === "TimeoutError";
    throw new NodeError(0, { error: {
      message: late ? "The node did not answer in time." : "The node cannot be reached.",
      hint: late ? "" : "Is it running, and this machine on its network?", code: late ? "timeout" : "unreachable",
    } });
  }
  if (answer.ok) return answer;
  const wrong = new NodeError(answer.status, await answer.json().catch(() => null));
  if (answer.status === 401 && path !== "/login") onOver(wrong);
  throw wrong;
}

/** Sign in with `{key}` or `{setup_code}`; gives the session. */
export async function signIn(given) {
  return keep(await ask("POST", "/login", given));
}

/** The session that there is, or null. */
export async function session() {
  const told = await ask("GET", "/login");
  return told.is_signed_in ? keep(told) : null;
}

/** End the session. */
export async function signOut() {
  await ask("DELETE", "/api/session");
  csrf = null;
}

function keep(told) {
  csrf = told.csrf;
  return told;
}

const SILENCE_MS = 25_000; // the node says something each 10 s: a cable that is pulled ends no connection

/** Hear what changes: `onState(sections)` for each event, `onLink(isThere)` when the node goes away or is back. */
export function follow(onState, onLink) {
  let source = null;
  let timer = null;
  let silent = null;
  const heard = () => {
    clearTimeout(silent);
    silent = setTimeout(() => { onLink(false); source.close(); open(); }, SILENCE_MS);
  };
  const open = () => {
    source = new EventSource("/api/events");
    heard();
    source.addEventListener("state", (event) => {
      heard();
      onLink(true);
      onState(JSON.parse(event.data));
    });
    source.addEventListener("here", heard);
    source.onopen = () => { heard(); onLink(true); };
    source.onerror = () => {
      onLink(false);
      if (source.readyState === EventSource.CLOSED) {
        clearTimeout(silent);
        clearTimeout(timer);
        timer = setTimeout(async () => {
          const is = await session().catch(() => undefined); // undefined: it does not answer yet
          if (is === null) onOver();
          else open();
        }, 2000);
      }
    };
  };
  open();
  return () => { clearTimeout(timer); clearTimeout(silent); source?.close(); };
}
