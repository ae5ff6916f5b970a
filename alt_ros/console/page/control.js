// Arm, hold, disarm: asked of the executor, its answer shown in full.

import { byId, clockText, setText } from "./page.js";
import { stopIsOpen } from "./stop.js";
import { keepToken, onToken, token, tokenIsUsable } from "./token.js";

const PATIENCE = 5000;  // ms
const SHOWN = 6000;  // ms that a success stays
const RESTING = { idle: "Arm", holding: "Re-arm", stopped: "Re-arm", fault: "Re-arm" };

const field = byId("token"), form = byId("token-form"), forget = byId("token-forget");
const box = byId("message-box"), message = byId("message"), reasonLine = byId("arm-reason");
const buttons = new Map([...document.querySelectorAll("[data-command]")].map((node) => [node.dataset.command, node]));
const waiting = new Map();  // requests by the command's name
let services = {}, connected = false, closing = null, executor = null;

function say(kind, text) {
  clearTimeout(closing);
  box.hidden = !text;
  box.className = kind;
  setText(message, text ? `${clockText()} ${text}` : "");
  if (kind === "good") closing = setTimeout(() => say("", ""), SHOWN);
}

function askForToken(text) {
  document.documentElement.dataset.asking = "yes";
  say("bad", text);
  field.focus();
}

async function command(name) {
  if (waiting.has(name)) return;
  if (!token()) {
    askForToken(`${name} is locked: type the control token`);
    return;
  }
  if (name === "arm" && !connected) {
    say("bad", "not armed: without a connection this page cannot show what the arm does");
    return;
  }
  if (name === "arm" && stopIsOpen()) {
    say("bad", "not armed: a stop was asked for and is not confirmed");
    return;
  }
  const request = new AbortController();
  waiting.set(name, request);
  draw();
  say("", "");
  const timer = setTimeout(() => request.abort(), PATIENCE);
  try {
    const answer = await fetch(`/control/${name}`, {
      method: "POST", cache: "no-store", signal: request.signal, headers: { Authorization: `Bearer ${token()}` },
    });
    const body = await answer.json().catch(() => ({}));
    const text = body.message || `the console answered ${answer.status}`;
    if (answer.status === 403) {
      keepToken("");
      askForToken(`${name} not allowed: ${text}`);
    } else if (answer.ok && body.success === true) say("good", `${name}: ${body.message || "done"}`);
    else if (answer.ok) say("bad", `${name} refused: ${text}`);
    else say("bad", `${name} not done: ${text}`);
  } catch {
    if (request.signal.reason === "stop") say("bad", `${name} given up: STOP was pressed`);
    else say("bad", request.signal.aborted
      ? `${name}: no answer in ${PATIENCE / 1000} s, it is not known whether it was done`
      : `${name}: the console cannot be reached, it is not known whether it was done`);
  } finally {
    clearTimeout(timer);
    waiting.delete(name);
    draw();
  }
}

function draw() {
  const locked = !token();
  const state = executor ? executor.state : "";
  document.documentElement.dataset.locked = locked ? "yes" : "no";
  for (const [name, node] of buttons) {
    const word = name === "arm" ? RESTING[state] || "Arm" : name[0].toUpperCase() + name.slice(1);
    setText(node.querySelector(".word"), waiting.has(name) ? `${word} ...` : word);
    const absent = services[name] === false;
    node.classList.toggle("locked", locked);
    node.classList.toggle("absent", absent);
    node.classList.toggle("next", name === "arm" && state in RESTING && !locked && !absent);
    const why = locked ? "locked: needs the control token" : absent ? "the executor's service is not there" : "";
    node.title = why;
    node.setAttribute("aria-label", why ? `${word}, ${why}` : word);
    node.setAttribute("aria-busy", waiting.has(name) ? "true" : "false");
  }
  form.hidden = !locked;
  forget.hidden = locked;
  if (!locked) document.documentElement.dataset.asking = "no";
  const absent = [...buttons.keys()].filter((name) => services[name] === false);
  const lines = state in RESTING ? [`${state}: ${executor.reason || "no reason given"}`] : [];
  if (absent.length) lines.push(`no service of the executor for ${absent.join(", ")}`);
  reasonLine.hidden = !lines.length;
  setText(reasonLine, lines.join("; "));
}

export function showControl(control, newExecutor) {
  services = control || {};
  executor = newExecutor;
  draw();
}

export function showConnected(value) {
  connected = value;
}

// A connection was refused for want of the token.
export function viewingNeedsToken() {
  const had = token();
  if (had) keepToken("");
  document.documentElement.dataset.asking = "yes";
  say("bad", had ? "the token was not accepted: type the control token" : "viewing needs the control token");
}

for (const [name, node] of buttons) {
  node.addEventListener("click", () => command(name));
  node.addEventListener("keydown", (event) => { if (event.repeat) event.preventDefault(); });
}
byId("message-close").addEventListener("click", () => say("", ""));
forget.addEventListener("click", () => keepToken(""));
form.addEventListener("submit", (event) => {
  event.preventDefault();
  const value = field.value.trim();
  if (!tokenIsUsable(value)) {
    say("bad", value ? "this cannot be a token: it has signs that no token has" : "type the control token first");
    return;
  }
  field.value = "";
  field.blur();  // so that Space stops again
  say("good", "token kept for this tab: the buttons are unlocked");
  keepToken(value);
});
field.addEventListener("keydown", (event) => { if (event.key === "Escape") field.blur(); });
// What would move the arm must not overtake a stop.
document.addEventListener("stop-pressed", () => { if (waiting.has("arm")) waiting.get("arm").abort("stop"); });
onToken(draw);
draw();
