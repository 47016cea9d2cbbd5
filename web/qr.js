// A QR code as a picture: the node works out the modules, here they are only drawn.

import { s } from "./dom.js";

const QUIET = 4; // modules of white around it, ISO/IEC 18004

/** `rows`: texts of "0" and "1", top to bottom. Black on white in both themes, or no camera reads it. */
export function code(rows, label) {
  const size = rows.length + 2 * QUIET;
  const dots = rows.flatMap((row, y) => [...row].map((one, x) => one === "1" ? `M${x + QUIET} ${y + QUIET}h1v1h-1z` : "")).join("");
  return s("svg", { class: "qr", viewBox: `0 0 ${size} ${size}`, role: "img", "aria-label": label },
    s("rect", { width: size, height: size, fill: "#fff" }), s("path", { d: dots, fill: "#000" }));
}
