// STOP. It stands alone: whatever else of the page fails, this part still sends the stop.

import { byId, clockText, now, setText } from "./page.js";

const PATIENCE = 500;  // ms without an answer, after which the stop counts as not confirmed
const GIVEN_UP = 5000;  // ms after which a request is closed
const IN_FLIGHT = 3;  // requests at once: browsers open few connections, a new press must not queue
const SETTLING = 0.3;  // s that the executor has to tell its state after a stop

const button = byId("stop"), status = byId("stop-status"), detail = byId("stop-detail"), hint = byId("stop-hint");
const pending = [];
let presses = 0, confirmed = 0;  // numbers of the last press and of the last one confirmed
let pressedAt = 0, confirmedAt = 0;  // s, page clock
let serviceThere = true, loud = false;

function show(kind, text, more = "") {
  loud = kind === "unconfirmed";
  document.documentElement.dataset.stop = kind;
  status.className = kind;
  status.hidden = !text;
  setText(status, text);
  detail.hidden = !more;
  setText(detail, more);
}

function showUnconfirmed(why) {
  show("unconfirmed", "NOT CONFIRMED: press the emergency stop", `${clockText()} ${why}`);
}

function confirm(press, text, more) {
  confirmed = Math.max(confirmed, press);
  confirmedAt = now();
  show("confirmed", text, `${clockText()} ${more}`.trim());
}

// Whether a stop was asked for that nothing has confirmed.
export const stopIsOpen = () => loud || status.className === "stopping";

export async function pressStop() {
  const press = ++presses, start = performance.now();
  pressedAt = start / 1000;
  document.dispatchEvent(new Event("stop-pressed"));
  if (loud) setText(detail, `${clockText()} sent again (press ${press}), no confirmation yet`);
  else show("stopping", "stopping ...");
  const request = new AbortController();
  pending.push(request);
  while (pending.length > IN_FLIGHT) pending.shift().abort();
  const impatient = setTimeout(() => {
    if (press > confirmed) showUnconfirmed(`no answer in ${PATIENCE} ms`);
  }, PATIENCE);
  const closing = setTimeout(() => request.abort(), GIVEN_UP);
  let failure;
  try {
    const answer = await fetch("/control/stop", {
      method: "POST", cache: "no-store", priority: "high", signal: request.signal,
    });
    const body = await answer.json().catch(() => ({}));
    if (answer.ok && body.success === true) {
      if (press > confirmed) confirm(press, `STOPPED, confirmed in ${Math.round(performance.now() - start)} ms`, "");
      return;
    }
    failure = body.message || `the console answered ${answer.status}`;
  } catch (error) {
    failure = error.name === "AbortError" ? "no answer" : "the console cannot be reached";
  } finally {
    clearTimeout(impatient);
    clearTimeout(closing);
    const at = pending.indexOf(request);
    if (at >= 0) pending.splice(at, 1);
  }
  // An earlier press given up for a later one says nothing: the later one is judged.
  if (press > confirmed && (press === presses || !request.signal.aborted)) showUnconfirmed(failure);
}

// The executor's state, and when it was told on the page's clock in seconds (at the latest).
export function heardState(name, toldAt) {
  if (name === "stopped") {
    if (loud && toldAt > pressedAt) confirm(presses, "STOPPED", "the executor says so");
    return;
  }
  const over = status.className === "confirmed" && toldAt > confirmedAt + SETTLING;
  if (over) show("", "");  // armed again since: no word of a stop that is past
}

export function heardService(there) {
  serviceThere = there;
  showHint();
}

// What the Space key does just now.
function showHint() {
  const typing = document.activeElement && document.activeElement.id === "token";
  const away = !document.hasFocus();
  button.classList.toggle("warned", typing || away || !serviceThere);
  let text = "press here, or the Space key";
  if (typing) text = "press here: Space is typing now";
  else if (away) text = "press here: this window has no keys";
  if (!serviceThere) text = "no stop service: use the emergency stop";
  setText(hint, text);
}

// Pressed as soon as it is touched; a click without a pointer (Enter, a screen reader) counts too.
let touchedAt = -Infinity;
button.addEventListener("pointerdown", () => { touchedAt = now(); pressStop(); });
button.addEventListener("click", (event) => {
  event.preventDefault();
  if (event.detail === 0 || now() - touchedAt > 1) pressStop();
});
button.addEventListener("keydown", (event) => { if (event.repeat) event.preventDefault(); });
button.addEventListener("contextmenu", (event) => event.preventDefault());
byId("stop-form").addEventListener("submit", (event) => event.preventDefault());

function isStopKey(event) {
  return event.code === "Space" || event.key === " ";
}
// Taken before any other part of the page sees it; the release too, for that is what clicks a button.
window.addEventListener("keydown", (event) => {
  if (!isStopKey(event) || event.target.id === "token") return;
  event.preventDefault();
  event.stopImmediatePropagation();
  if (!event.repeat) pressStop();
}, { capture: true });
window.addEventListener("keyup", (event) => {
  if (!isStopKey(event) || event.target.id === "token") return;
  event.preventDefault();
  event.stopImmediatePropagation();
}, { capture: true });

for (const name of ["focus", "blur", "focusin", "focusout"]) {
  window.addEventListener(name, () => setTimeout(showHint, 0));
}
showHint();
