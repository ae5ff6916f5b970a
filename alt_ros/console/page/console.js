// Puts the page together: what comes in is kept, and drawn a few times a second.

import { drawChart, takeDecisions } from "./chart.js";
import { showConnected, showControl, viewingNeedsToken } from "./control.js";
import { Feed } from "./feed.js";
import { byId, guarded, now, reportBroken } from "./page.js";
import { showDecisionOfPictures, showPictureAges, takePicture } from "./pictures.js";
import { showAges, showState } from "./state.js";
import { heardService, heardState } from "./stop.js";
import { showDecision, showDiagnostics, showEvents, showTables } from "./tables.js";
import { onToken, token } from "./token.js";

const REDRAW = 0.1;  // s, at the least, between two drawings of the chart and the tables
const AGES = 200;  // ms between two looks at how old everything is

let latest = null, timing = null;
let viewingLocked = false, drawnAt = -Infinity, queued = false;

function setConnected(value) {
  document.documentElement.dataset.connected = value ? "yes" : "no";
  showConnected(value);
}

const feed = new Feed(token, {
  connected() {
    viewingLocked = false;
    setConnected(true);
  },
  lost(why) {
    setConnected(false);
    if (why === "token") {
      viewingLocked = true;
      viewingNeedsToken();
    }
    drawAges();
  },
  picture: takePicture,
  state(message, newTiming) {
    latest = message;
    timing = newTiming;
    const { executor } = message;
    guarded(() => showState(message, timing));
    guarded(() => showControl(message.control, executor));
    heardService(!message.control || message.control.stop !== false);
    if (executor) heardState(executor.state, timing.receivedAt - Math.max(0, timing.lag) - (executor.age || 0));
    guarded(() => takeDecisions(message.decisions, { first: timing.first, time: message.time }));
    guarded(() => showEvents(message.events, timing.first));
    guarded(() => showDecisionOfPictures(message.decision, timing.receivedAt));
    if (queued) return;
    queued = true;
    requestAnimationFrame(() => {
      queued = false;
      drawAges();
    });
  },
});

function drawAges() {
  guarded(() => showAges(feed, viewingLocked));
  guarded(() => showPictureAges(feed.connected));
  if (!latest || now() - drawnAt < REDRAW) return;
  drawnAt = now();
  const late = now() - timing.receivedAt;
  guarded(() => showDecision(latest.decision, late));
  guarded(() => showTables(latest, late));
  guarded(() => showDiagnostics(latest.diagnostics));
  guarded(() => drawChart(latest.time + late));
}

feed.start();
setInterval(drawAges, AGES);
onToken((value) => { if (value) feed.retry({ locked: true }); });
window.addEventListener("error", (event) => reportBroken(event.error || event.message));
window.addEventListener("unhandledrejection", (event) => reportBroken(event.reason));

// A keyboard on a tablet's screen must not lie over STOP.
if (window.visualViewport) {
  const fit = () => {
    const { height, scale } = window.visualViewport;
    if (scale === 1) document.documentElement.style.setProperty("--tall", `${height}px`);
  };
  window.visualViewport.addEventListener("resize", fit);
  fit();
}
byId("content").scrollTop = 0;
