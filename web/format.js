// Figures as people write them: the same rules as base/units.py, held by the same cases.

const SIZES = [[2 ** 40, "TiB"], [2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"]];

/** "3.4 GiB"; null is "unknown". */
export function bytes(count) {
  if (count === null || count === undefined) return "unknown";
  for (const [factor, name] of SIZES) {
    if (Math.abs(count) >= factor) return `${fixed(count / factor, 1)} ${name}`;
  }
  return `${count} B`;
}

/** "340 µs", "12.5 ms", "3.2 s", "4 min"; null is "unknown". */
export function seconds(value) {
  if (value === null || value === undefined) return "unknown";
  if (value < 0.001) return `${fixed(value * 1e6, 0)} µs`;
  if (value < 1) return `${fixed(value * 1e3, 1)} ms`;
  if (value < 120) return `${fixed(value, 1)} s`;
  return `${fixed(value / 60, 0)} min`;
}

/** A number with so many decimals, as Python's format writes it: the nearest, and of two equally near ones the even one. */
export function fixed(value, digits) {
  const halves = value * 2 ** (digits + 1); // exact; odd where the value lies just between two (5 ** digits divides it then)
  if (!Number.isInteger(halves) || halves % 2 === 0) return value.toFixed(digits);
  const floor = Math.floor(value * 10 ** digits);
  return ((floor % 2 === 0 ? floor : floor + 1) / 10 ** digits).toFixed(digits);
}

/** "12.3 tokens/s"; null is nothing. */
export function rate(value) {
  return Number.isFinite(value) ? `${fixed(value, 1)} tokens/s` : null;
}

/** A number with its thousands apart; null is "unknown". */
export function count(value) {
  return value === null || value === undefined ? "unknown" : value.toLocaleString("en-US");
}

/** A time of the node (seconds since 1970) on this browser's clock. */
export function when(at) {
  if (at === null || at === undefined) return "never";
  const date = new Date(at * 1000);
  const two = (number) => String(number).padStart(2, "0");
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ` +
    `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

/** Half-open layers, as everywhere: "[0, 12)". */
export function layers([first, last]) {
  return `[${first}, ${last})`;
}

/** The first characters of a digest or an id. */
export function short(text, most = 12) {
  return text && text.length > most ? text.slice(0, most) : text ?? "";
}
