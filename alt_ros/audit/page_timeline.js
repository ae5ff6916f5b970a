// The one time axis: where the scrubber is, which window the charts show, and how both are moved.

const SHORTEST = Math.min(0.05, SECONDS);
const timeline = { now: 0, start: 0, end: SECONDS, playing: false };
const followers = [];  // called when the scrubber has moved
const painters = [];   // called when the window, the size or the colours have changed
let dirty = { follow: false, paint: false };

function refresh(what) {
  if (!dirty.follow && !dirty.paint) requestAnimationFrame(() => {
    const { follow, paint } = dirty;
    dirty = { follow: false, paint: false };
    if (paint) painters.forEach((painter) => painter());
    if (follow || paint) followers.forEach((follower) => follower());
  });
  dirty[what] = true;
}

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

function moveTo(t) {
  timeline.now = clamp(t, 0, SECONDS);
  document.body.dataset.time = timeline.now;
  const span = timeline.end - timeline.start;
  if (timeline.now < timeline.start) show(timeline.now - 0.1 * span, timeline.now + 0.9 * span);
  if (timeline.now > timeline.end) {
    const lead = timeline.playing ? 0.1 : 0.9;  // while it plays, a page is turned
    show(timeline.now - lead * span, timeline.now + (1 - lead) * span);
  }
  refresh("follow");
}

function show(start, end) {
  const span = clamp(end - start, SHORTEST, SECONDS);
  timeline.start = clamp((start + end - span) / 2, 0, SECONDS - span);
  timeline.end = timeline.start + span;
  refresh("paint");
}

function zoom(factor, about = timeline.now) {
  const span = clamp((timeline.end - timeline.start) * factor, SHORTEST, SECONDS);
  const share = (about - timeline.start) / (timeline.end - timeline.start);
  show(about - share * span, about + (1 - share) * span);
}

const pan = (seconds) => show(timeline.start + seconds, timeline.end + seconds);

// A finding or a state: its beginning, with enough around it to see what led there.
function visit(start, end = start) {
  const span = clamp(4 * (end - start), 20, SECONDS);
  if (timeline.end - timeline.start > 3 * span || start < timeline.start || end > timeline.end) {
    show(start - span / 4, start + 3 * span / 4);
  }
  moveTo(start);
}

function step(direction) {
  let i = lastBefore(steps, timeline.now);
  if (!steps.length) return moveTo(timeline.now + 0.1 * direction);
  if (direction > 0) i += 1;
  else while (i >= 0 && steps[i] >= timeline.now - ROUNDING) i -= 1;
  return moveTo(steps[clamp(i, 0, steps.length - 1)]);
}

const byTime = [...audit.findings].sort((a, b) => a.start - b.start);
function nextFinding(direction) {
  const later = byTime.filter((finding) => direction * (finding.start - timeline.now) > 1e-6);
  const next = direction > 0 ? later[0] : later[later.length - 1];
  if (next) visit(next.start, next.end);
}

function play(on = !timeline.playing) {
  if (on && timeline.now >= SECONDS) moveTo(0);
  timeline.playing = on;
  let before = performance.now();
  const tick = (moment) => {
    if (!timeline.playing) return;
    moveTo(timeline.now + Math.max(0, moment - before) / 1000);
    before = moment;
    if (timeline.now >= SECONDS) timeline.playing = false;
    else requestAnimationFrame(tick);
  };
  if (on) requestAnimationFrame(tick);
  refresh("follow");
}

const KEYS = {
  ArrowLeft: (event) => (event.shiftKey ? moveTo(timeline.now - 1) : step(-1)),
  ArrowRight: (event) => (event.shiftKey ? moveTo(timeline.now + 1) : step(1)),
  Home: () => moveTo(0),
  End: () => moveTo(SECONDS),
  " ": () => play(),
  n: () => nextFinding(1),
  p: () => nextFinding(-1),
  "+": () => zoom(0.5),
  "-": () => zoom(2),
  0: () => show(0, SECONDS),
};
document.addEventListener("keydown", (event) => {
  const key = KEYS[event.key];
  if (!key || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === " " && event.target.closest("button, summary, a")) return;  // presses it
  event.preventDefault();
  key(event);
});
document.addEventListener("click", (event) => {  // so that the space bar plays afterwards
  const pressed = event.target.closest("button, summary");
  if (pressed && event.detail > 0) pressed.blur();
});

// Pointers -----------------------------------------------------------------------------------

const LEFT = 62, RIGHT = 20;  // of every chart and of the strip, so that times stand in line

// `range` gives the times that the element shows from left to right.
function gestures(target, range, { wheelZooms = false, selection = null } = {}) {
  const pointers = new Map();
  let drag = null;
  const timeAt = (x, { start, end } = range()) => {
    const box = target.getBoundingClientRect();
    const share = (x - box.left - LEFT) / Math.max(1, box.width - LEFT - RIGHT);
    return start + share * (end - start);
  };
  const spread = () => {
    const [a, b] = [...pointers.values()];
    return { middle: (a + b) / 2, width: Math.max(20, Math.abs(a - b)) };
  };
  target.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    target.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, event.clientX);
    play(false);
    if (pointers.size === 2) {
      const { middle, width } = spread();
      drag = { pinch: true, width, at: timeAt(middle), start: timeline.start, end: timeline.end };
    } else if (selection && event.shiftKey) drag = { from: timeAt(event.clientX) };
    else { drag = { scrub: true }; moveTo(timeAt(event.clientX)); }
  });
  target.addEventListener("pointermove", (event) => {
    if (!pointers.has(event.pointerId) || !drag) return;
    pointers.set(event.pointerId, event.clientX);
    const t = timeAt(event.clientX);
    if (drag.pinch && pointers.size === 2) {
      const { middle, width } = spread();
      const span = (drag.end - drag.start) * drag.width / width;
      const share = timeAt(middle, { start: 0, end: 1 });
      show(drag.at - share * span, drag.at + (1 - share) * span);
    } else if (drag.scrub) moveTo(clamp(t, range().start, range().end));
    else if (selection) selection(drag.from, t);
  });
  const release = (event) => {
    if (!pointers.delete(event.pointerId)) return;
    if (drag && drag.from !== undefined) {
      const t = timeAt(event.clientX);
      selection(null);
      if (Math.abs(t - drag.from) > SHORTEST / 5) show(Math.min(t, drag.from), Math.max(t, drag.from));
    }
    drag = null;
  };
  target.addEventListener("pointerup", release);
  target.addEventListener("pointercancel", release);
  target.addEventListener("dblclick", () => show(0, SECONDS));
  target.addEventListener("wheel", (event) => {
    const sideways = Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey;
    const span = timeline.end - timeline.start;
    if (sideways) pan((event.deltaX || event.deltaY) / 1000 * span);
    else if (wheelZooms || event.ctrlKey || event.metaKey) {
      zoom(Math.exp(clamp(event.deltaY, -200, 200) / 400), timeAt(event.clientX));
    } else return;  // the page scrolls
    event.preventDefault();
  }, { passive: false });
}

