// What is embedded, decoded: columns as typed arrays, and look-ups in time.

const ARRAYS = {
  f8: Float64Array, f4: Float32Array, i4: Int32Array, i2: Int16Array, u1: Uint8Array,
};

function decoded(id) {
  const holder = document.getElementById(id);
  const value = JSON.parse(holder.textContent, (key, part) =>
    part && part.base64 !== undefined ? typedArray(part) : part);
  holder.remove();  // the text of an hour's pictures is large
  return value;
}

function typedArray({ dtype, base64 }) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i);
  return new ARRAYS[dtype](bytes.buffer);
}

const audit = decoded("audit");
const frames = decoded("frames");
const SECONDS = Math.max(audit.seconds || 0, 0.001);

// The index of the last time at or before t, to within rounding; -1 where there is none.
const ROUNDING = 1e-6;
function lastBefore(times, t) {
  let low = 0, high = times.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] <= t + ROUNDING) low = middle + 1; else high = middle;
  }
  return low - 1;
}

// What is longer than this between two samples is a gap, not a line.
const gaps = new WeakMap();
function gapOf(times) {
  if (!gaps.has(times)) gaps.set(times, measuredGap(times));
  return gaps.get(times);
}

function measuredGap(times) {
  const steps = [];
  const stride = Math.max(1, Math.floor(times.length / 2000));
  for (let i = 1; i < times.length; i += stride) steps.push(times[i] - times[i - 1]);
  steps.sort((a, b) => a - b);
  return Math.max(0.3, 5 * (steps[steps.length >> 1] || 0));
}

// Runs of one value: [{start, end, value}], the end where the next run begins.
function runs(times, values, keep = () => true) {
  const found = [];
  const gap = gapOf(times);
  for (let i = 0; i < times.length; i++) {
    if (!keep(values[i])) continue;
    const next = i + 1 < times.length ? times[i + 1] : SECONDS;
    const end = Math.min(next, times[i] + gap);
    const before = found[found.length - 1];
    if (before && before.value === values[i] && before.end === times[i]) before.end = end;
    else found.push({ start: times[i], end, value: values[i] });
  }
  return found;
}

const decisions = audit.decisions;
const strangeSpans = runs(decisions.t, decisions.flag, (flag) => flag === 1);
const stateSpans = audit.states.map((state, i) => ({
  start: state.t, end: i + 1 < audit.states.length ? audit.states[i + 1].t : SECONDS,
  value: state.state, reason: state.reason,
}));
const stateTimes = audit.states.map((state) => state.t);
// What the arrow keys step along.
const steps = [decisions.t, frames.live.t, audit.commands.t].find((t) => t.length) || [];

const recalled = new Map();  // demonstration -> its kept frames, in order
for (const kept of frames.recalled) {
  if (!recalled.has(kept.demonstration)) recalled.set(kept.demonstration, []);
  recalled.get(kept.demonstration).push(kept);
}

function nearestRecalled(demonstration, frame) {
  let nearest = null;
  for (const kept of recalled.get(demonstration) || []) {
    if (!nearest || Math.abs(kept.frame - frame) < Math.abs(nearest.frame - frame)) nearest = kept;
  }
  return nearest;
}

const nameOf = (demonstration) =>
  audit.demonstrations[demonstration] ?? (demonstration < 0 ? "none" : `number ${demonstration}`);

// Text ---------------------------------------------------------------------------------------

const isNumber = (value) => typeof value === "number" && !Number.isNaN(value);

function numberText(value, unit = "") {
  if (!isNumber(value)) return "not known";
  const size = Math.abs(value);
  let text;
  if (!Number.isFinite(value)) text = "beyond any number";
  else if (size !== 0 && (size < 1e-3 || size >= 1e5)) text = value.toExponential(1);
  else text = value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3);
  return unit ? `${text} ${unit}` : text;
}

function timeText(t, digits = 2) {
  if (SECONDS < 60) return `${t.toFixed(digits)} s`;
  const whole = Number(t.toFixed(digits));
  const minutes = Math.floor(whole / 60);
  const rest = (whole - 60 * minutes).toFixed(digits).padStart(digits ? 3 + digits : 2, "0");
  return `${minutes}:${rest}`;
}

function durationText(seconds) {
  if (seconds < 60) return numberText(seconds, "s");
  return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
}

const counted = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

// An element; text never becomes markup.
function element(tag, { text, parent, ...properties } = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made && name !== "role") made[name] = value; else made.setAttribute(name, value);
  }
  if (text !== undefined) made.textContent = text;
  made.append(...children);
  if (parent) parent.append(made);
  return made;
}

const byId = (id) => document.getElementById(id);

