// The executor's state in large letters, and what the page cannot vouch for.

import { byId, known, now, setText, spanText } from "./page.js";

const SILENT = 2;  // s without a word of the executor
const LATE = 1;  // s that the feed lags behind
// Colour, mark and words of each state: the colour never stands alone.
const STATES = {
  idle: ["still", "\u25CB", "nothing is sent"],
  armed: ["ready", "\u25C6", "the arm may move at any moment"],
  running: ["moving", "\u25B6", "the policy moves the arm"],
  holding: ["waiting", "\u2016", "brakes and holds; it may go on by itself"],
  returning: ["other", "\u25C0", "the arm moves back along the demonstration"],
  fallback: ["other", "\u25B6", "another policy moves the arm"],
  stopped: ["still", "\u25A0", "nothing is sent until it is armed again"],
  fault: ["fault", "\u2715", "nothing is sent until it is armed again"],
};

const header = byId("state");
const banners = { connection: byId("connection"), silence: byId("silence"), lateness: byId("lateness") };
let executor = null, receivedAt = 0, lag = 0, heard = false;

export function showState(message, timing) {
  executor = message.executor;
  receivedAt = timing.receivedAt;
  lag = timing.lag;
  heard = true;
  const [kind, mark, meaning] = executor ? STATES[executor.state] || ["unknown", "?", "a state that this page does not know"]
    : ["unknown", "?", ""];
  header.className = `kind-${kind}`;
  setText(byId("state-mark"), mark);
  setText(byId("state-name"), executor ? executor.state : "unknown");
  setText(byId("state-reason"), executor ? executor.reason : "the executor has told nothing yet");
  setText(byId("state-meaning"), meaning);
  document.title = `${executor ? executor.state.toUpperCase() : "no executor"} - alt console`;
}

function banner(name, text) {
  banners[name].hidden = !text;
  setText(banners[name], text);
}

// Told anew a few times a second, for ages grow without any message too.
export function showAges(feed, viewingLocked) {
  const at = now();
  const gone = at - feed.heardAt;
  let lost = "";
  if (!feed.connected && viewingLocked) {
    lost = "viewing needs the control token; STOP works without it";
  } else if (!feed.connected && heard) {
    lost = `no connection to the console for ${spanText(gone)}: what is shown is old; the arm goes on without this page`;
  } else if (!feed.connected && gone > 1) {
    lost = `no connection to the console for ${spanText(gone)}: nothing is shown yet; the arm goes on without this page`;
  }
  banner("connection", lost);
  const silent = executor && known(executor.age) ? executor.age + at - receivedAt : 0;
  banner("silence", feed.connected && silent > SILENT ? `the executor has said nothing for ${spanText(silent)}` : "");
  banner("lateness", feed.connected && lag > LATE
    ? `what is shown is ${spanText(lag)} late: the link or this device is slow` : "");
  const old = heard && (!feed.connected || silent > SILENT);
  header.classList.toggle("old", old);
  byId("last-known").hidden = !old;
  const seconds = executor && known(executor.seconds) ? executor.seconds + (old ? 0 : at - receivedAt) : null;
  setText(byId("state-seconds"), known(seconds) ? `for ${spanText(seconds)}` : "");
}
