// A chat's turns as data: what the node is sent of them, and how events of answers and of runs fill them.

const MAX_EARLIER = 64;
const MAX_SHOWN = 200_000; // characters of one answer that the page keeps
const PLACES = ["this-machine", "LAN", "outside"]; // ever further away

/** Whether a turn goes along with the next message. A run's words carry labels that only its end tells: without, they stay. */
export function goesAlong(turn) {
  return turn.role === "user" || Boolean(turn.text) && !(turn.agent && turn.labels === undefined);
}

/** Messages for the node out of all turns so far: files stand fenced after the words that they came with. */
export function turnsBefore(turns) {
  return turns.filter(goesAlong).slice(-MAX_EARLIER - 1).map((turn) => ({
    role: turn.role,
    content: turn.role === "user"
      ? [turn.text, ...(turn.files ?? []).map((file) => `File ${JSON.stringify(file.name)}:\n${fenced(file.text)}`)].join("\n\n")
      : turn.text,
  }));
}

function fenced(text) {
  let longest = 2; // not Math.max of all: they may be more than a call takes
  for (const [ticks] of text.matchAll(/`+/g)) longest = Math.max(longest, ticks.length);
  const fence = "`".repeat(longest + 1);
  return `${fence}\n${text}\n${fence}`;
}

/** Put one event into a turn: a chunk of /v1/chat/completions, or an event of an agent's run. */
export function take(turn, event) {
  if (event.headers) {
    turn.receipt = event.headers["x-mycoswarm-receipt"] ?? null;
    turn.run = event.headers["x-mycoswarm-run"] ?? null;
    turn.ran = event.headers["x-mycoswarm-ran"] ?? null;
    return;
  }
  if (event.error) {
    turn.error = event.error;
    return;
  }
  if (event.event) return takeRun(turn, event, "");
  turn.about = event.mycoswarm ?? turn.about;
  turn.usage = event.usage ?? turn.usage;
  if (turn.about?.receipt) turn.receipt = turn.about.receipt;
  for (const choice of event.choices ?? []) {
    say(turn, choice.delta?.content ?? "");
    for (const call of choice.delta?.tool_calls ?? []) {
      turn.steps.push({ tool: call.function?.name ?? "", arguments: call.function?.arguments ?? "", ok: true });
    }
    turn.end = choice.finish_reason ?? turn.end;
  }
}

function takeRun(turn, event, agent) {
  switch (event.event) {
    case "run": turn.run = event.id; break;
    case "sub_agent": takeRun(turn, event.told, `${agent ? `${agent} ` : ""}${event.name} ${event.agent}`); break;
    case "text": if (!agent) say(turn, event.text); break;
    case "heard":
      turn.nodes = [...new Set([...(turn.nodes ?? []), ...event.nodes])];
      turn.asked = [...(turn.asked ?? []), { agent, nodes: event.nodes, rule: event.rule, receipt: event.receipt, ran: event.ran }];
      turn.ran = further(turn.ran, event.ran);
      turn.rule = event.rule;
      if (!agent) turn.receipt = event.receipt;
      break;
    case "tokens": {
      const asked = turn.asked?.findLast((one) => one.agent === agent);
      if (asked) asked.speed = event.tokens_per_s;
      break;
    }
    case "call":
      if (!agent) turn.text = "";
      turn.steps.push({ id: event.id, agent, tool: event.tool, arguments: event.arguments, isOpen: true });
      break;
    case "result": {
      const found = turn.steps.find((step) => step.isOpen && step.id === event.id && step.agent === agent);
      Object.assign(found ?? {}, { isOpen: false, ok: event.ok, text: event.text, node: event.node, ran: event.ran, seconds: event.seconds });
      turn.ran = further(turn.ran, event.ran);
      break;
    }
    case "end":
      if (agent) break;
      turn.end = event.end;
      turn.labels = event.labels ?? [];
      turn.speed = event.tokens_per_s;
      turn.usage = { prompt_tokens: event.prompt_tokens, completion_tokens: event.completion_tokens };
      if (event.answer) turn.text = event.answer.slice(0, MAX_SHOWN);
      if (event.end !== "answer" && event.message) turn.error = { message: event.message, code: event.code ?? event.end };
      break;
    default:
  }
}

function say(turn, text) {
  if (turn.text.length < MAX_SHOWN) turn.text += text;
}

/** The further of two places; one that is not known changes nothing. */
function further(one, other) {
  return PLACES.indexOf(other) > PLACES.indexOf(one) ? other : one;
}

/** "12 read, 34 written", or null. */
export function answerOf(turn) {
  return turn.usage ? `${turn.usage.prompt_tokens} read, ${turn.usage.completion_tokens} written` : null;
}

/** The labels that a next message carries: those typed in, and those of all that was said, for that goes along. */
export function labelsOf(turns, typed) {
  const words = typed.split(",").map((one) => one.trim()).filter(Boolean);
  return [...new Set([...words, ...turns.flatMap((turn) => turn.labels ?? [])])].sort();
}
