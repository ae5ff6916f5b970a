// Demonstration, latency, rates, diagnostics and events.

import { byId, clockText, element, known, msText, numberText, setText, spanText, steadyText } from "./page.js";

// The monitor's names of what is strange, where they are not words yet.
const CAUSES = { not_finite: "a camera shows nothing", cosine: "unlike every demonstration" };

const QUIET = 1;  // s without a message, after which a topic is marked
const MOST_EVENTS = 200;
const LEVELS = { 0: "ok", 1: "warning", 2: "error", 3: "stale" };
const ORDER = [2, 3, 1, 0];  // worst first

export function showDecision(decision, late) {
  const section = byId("demonstration");
  const verdict = byId("verdict");
  if (!decision) {
    setText(byId("demonstration-name"), "no decision has come yet");
    setText(byId("demonstration-frame"), "");
    byId("demonstration-bar").hidden = true;
    for (const name of ["similarity", "score"]) setText(byId(name).querySelector("b"), "-");
    verdict.hidden = true;
    section.className = "";
    return;
  }
  const { demonstration, name, frame, frames } = decision;
  setText(byId("demonstration-name"), `demonstration ${demonstration}${name ? ` (${name})` : ""}`);
  setText(byId("demonstration-frame"), known(frames) ? `frame ${frame} of ${frames}` : `frame ${frame}`);
  const bar = byId("demonstration-bar");
  bar.hidden = !(known(frames) && frames > 0);
  if (!bar.hidden) {
    bar.firstElementChild.style.width = `${Math.min(100, Math.max(0, 100 * frame / frames))}%`;
    bar.setAttribute("aria-valuemax", String(frames));
    bar.setAttribute("aria-valuenow", String(frame));
  }
  setText(byId("similarity").querySelector("b"), known(decision.similarity) ? decision.similarity.toFixed(3) : "not known");
  // A score that is not finite comes where a view shows nothing: there is nothing to compare.
  setText(byId("score").querySelector("b"), !known(decision.score) ? "none"
    : `${steadyText(decision.score)}${known(decision.threshold) ? ` of ${numberText(decision.threshold)}` : ""}`);
  const age = decision.age + late;
  verdict.hidden = false;
  if (age > QUIET) {
    section.className = "old";
    setText(verdict, `the last decision is ${spanText(age)} old`);
  } else if (decision.flag) {
    section.className = "strange";
    const cause = CAUSES[decision.cause] || decision.cause;
    const what = [cause, decision.view && `view ${decision.view}`].filter(Boolean).join(", ");
    setText(verdict, `out of distribution${what ? `: ${what}` : ""}`);
  } else {
    section.className = "familiar";
    setText(verdict, known(decision.score) ? "within the demonstrations" : "not flagged, but without a score");
  }
}

function fillRows(body, rows) {
  while (body.rows.length > rows.length) body.deleteRow(-1);
  rows.forEach(({ cells, kind = "" }, i) => {
    const row = body.rows[i] || body.insertRow();
    while (row.cells.length < cells.length) row.insertCell().className = row.cells.length > 1 ? "number" : "";
    cells.forEach((text, j) => setText(row.cells[j], text));
    row.className = kind;
  });
}

export function showTables(message, late) {
  const { latency, executor } = message;
  const rows = [
    ["encode", msText(latency.encode_ms)],
    ["policy", msText(latency.policy_ms)],
    ["to the command, median", msText(latency.command_p50_ms)],
    ["to the command, 99 %", msText(latency.command_p99_ms)],
  ];
  if (executor) {
    rows.push(["delay compensated", msText(executor.delay_ms)]);
    rows.push(["commands, chunks", `${executor.commands}, ${executor.chunks}`]);
    rows.push(["refused", String(executor.refused)]);
  }
  fillRows(byId("latency").tBodies[0], rows.map((cells) => ({ cells })));
  fillRows(byId("rates").tBodies[0], message.rates.map(({ topic, hz, age }) => {
    const since = known(age) ? age + late : null;
    const quiet = !(since !== null && since <= QUIET);
    return {
      kind: quiet ? "quiet" : "",
      cells: [topic, quiet || !known(hz) ? "\u2715 silent" : `${hz.toFixed(1)} Hz`, since === null ? "never" : spanText(since)],
    };
  }));
}

const lines = new Map();  // diagnostics by name
let order = "";

export function showDiagnostics(diagnostics) {
  const box = byId("diagnostics");
  const rank = ({ level }) => { const at = ORDER.indexOf(level); return at < 0 ? 0 : at; };
  const sorted = [...diagnostics].sort((a, b) => rank(a) - rank(b) || (a.name < b.name ? -1 : 1));
  const names = new Set(sorted.map(({ name }) => name));
  for (const [name, line] of lines) {
    if (!names.has(name)) { line.root.remove(); lines.delete(name); }
  }
  for (const { name, level, message, values, age } of sorted) {
    let line = lines.get(name);
    if (!line) {
      const root = element("details"), summary = element("summary", { parent: root });
      line = { root, level: element("b", { parent: summary, className: "level" }),
        name: element("span", { parent: summary, className: "name", text: name }),
        message: element("span", { parent: summary, className: "what" }),
        values: element("dl", { parent: root }) };
      lines.set(name, line);
    }
    const word = LEVELS[level] || `level ${level}`;
    line.root.className = LEVELS[level] || "error";
    setText(line.level, word);
    setText(line.message, message);
    const pairs = [...Object.entries(values || {}), ["told", `${spanText(age)} ago`]];
    if (!line.root.open && line.values.childElementCount) continue;
    const keys = pairs.map(([key]) => key).join("\n");
    if (line.keys !== keys) {
      line.keys = keys;
      line.values.replaceChildren(...pairs.flatMap(([key]) => [element("dt", { text: key }), element("dd")]));
    }
    pairs.forEach(([, value], i) => setText(line.values.children[2 * i + 1], String(value)));
  }
  const wanted = sorted.map(({ name }) => name).join("\n");
  if (wanted !== order || !box.firstElementChild) {
    order = wanted;
    box.replaceChildren(...(sorted.length ? sorted.map(({ name }) => lines.get(name).root)
      : [element("p", { className: "empty", text: "none yet" })]));
  }
}

export function showEvents(events, first) {
  const list = byId("events");
  if (first) list.replaceChildren();
  if (events.length) list.querySelectorAll(".empty").forEach((node) => node.remove());
  for (const [time, level, text] of events) {
    const item = element("li", { className: level === "info" ? "note" : level },
      element("time", { text: clockText(time) }), element("b", { text: level }), element("span", { text }));
    list.prepend(item);
  }
  while (list.childElementCount > MOST_EVENTS) list.lastElementChild.remove();
  if (!list.childElementCount) element("li", { parent: list, className: "empty", text: "none yet" });
}
