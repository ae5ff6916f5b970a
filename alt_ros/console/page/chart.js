// The last 60 s: similarity above, the score with its threshold below.

import { byId, known, numberText, setText } from "./page.js";

const SPAN = 60;  // s
const MOST = 6000;  // decisions kept: 100 a second
const GAP = 1;  // s between two decisions, above which no line joins them
const LEFT = 52, RIGHT = 12, TOP = 16, BETWEEN = 26, BOTTOM = 24;
const STEPS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 1, 2];  // lengths of the similarity axis
const FONT = "12px system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";
const [TIME, SIMILARITY, SCORE, THRESHOLD, FLAG, DEMONSTRATION] = [0, 1, 2, 3, 4, 5];

const canvas = byId("chart");
let points = [];

export function takeDecisions(added, { first, time }) {
  if (first) points = [];
  points.push(...added);
  let old = Math.max(0, points.length - MOST);
  while (old < points.length && points[old][TIME] < time - SPAN - GAP) old++;
  if (old) points.splice(0, old);
}

const style = getComputedStyle(document.documentElement);
let colours = {};
function readColours() {
  for (const name of ["ink", "soft", "line", "page", "head", "accent", "error"]) {
    colours[name] = style.getPropertyValue(`--${name}`).trim();
  }
}
readColours();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { colours = {}; readColours(); });

function similarityAxis(shown) {
  let least = 1;
  for (const point of shown) if (known(point[SIMILARITY])) least = Math.min(least, point[SIMILARITY]);
  const length = STEPS.find((step) => 1 - step <= least) || 2;
  return { low: 1 - length, high: 1, ticks: [1 - length, 1 - length / 2, 1] };
}

// From zero to a little above the threshold; a score far above it stays at the edge.
function scoreAxis(shown) {
  let low = 0, most = 0, threshold = null;
  for (const point of shown) {
    if (known(point[SCORE])) { low = Math.min(low, point[SCORE]); most = Math.max(most, point[SCORE]); }
    if (known(point[THRESHOLD])) threshold = point[THRESHOLD];
  }
  let high = most, note = "";
  if (known(threshold) && threshold > 0) {
    if (threshold > 20 * most && most > 0) note = "threshold far above this axis";
    else high = Math.max(1.25 * threshold, Math.min(most, 4 * threshold));
    if (most > high) note = "scores beyond the axis are at its edge";
  } else if (known(threshold)) {
    low = Math.min(low, threshold);
    high = Math.max(high, threshold);
  }
  if (!(high > low)) high = low + 1;
  const margin = (high - low) * 0.06;
  const power = 10 ** Math.floor(Math.log10(high - low));
  const step = power * ([0.2, 0.5, 1, 2, 5].find((factor) => (high - low) / (factor * power) <= 3.5) || 5);
  const ticks = [];
  for (let i = Math.ceil(low / step); i * step <= high + margin && ticks.length < 8; i++) ticks.push(i * step);
  return { low: low < 0 ? low - margin : low, high: high + margin, ticks, threshold, note };
}

function hatch(pen) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 8;
  const brush = tile.getContext("2d");
  brush.strokeStyle = colours.error;
  brush.lineWidth = 2;
  for (const shift of [-8, 0, 8]) {
    brush.beginPath();
    brush.moveTo(shift - 1, 9);
    brush.lineTo(shift + 9, -1);
    brush.stroke();
  }
  return pen.createPattern(tile, "repeat");
}

function paintAxis(pen, strip, axis, title) {
  pen.lineWidth = 1;
  pen.strokeStyle = colours.line;
  pen.fillStyle = colours.soft;
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  for (const tick of axis.ticks) {
    const level = Math.round(strip.y(tick)) + 0.5;
    pen.beginPath();
    pen.moveTo(strip.left, level);
    pen.lineTo(strip.right, level);
    pen.stroke();
    pen.fillText(numberText(tick), strip.left - 6, level);
  }
  pen.textAlign = "left";
  pen.textBaseline = "bottom";
  pen.fillStyle = colours.ink;
  pen.fillText(title, strip.left, strip.top - 2);
}

function paintLine(pen, strip, shown, column, colour, dash = []) {
  pen.strokeStyle = colour;
  pen.lineWidth = 2;
  pen.setLineDash(dash);
  pen.lineJoin = "round";
  pen.beginPath();
  let last = null;
  for (const point of shown) {
    const value = point[column];
    if (!known(value)) { last = null; continue; }
    const x = strip.x(point[TIME]), y = strip.y(value);
    if (last === null || point[TIME] - last > GAP) pen.moveTo(x - 1, y);
    pen.lineTo(x, y);
    last = point[TIME];
  }
  pen.stroke();
  pen.setLineDash([]);
}

function paintFlags(pen, strips, shown) {
  const pattern = hatch(pen);
  for (let from = 0; from < shown.length; from++) {
    if (!shown[from][FLAG]) continue;
    let to = from;
    while (to + 1 < shown.length && shown[to + 1][FLAG] && shown[to + 1][TIME] - shown[to][TIME] < GAP) to++;
    for (const strip of strips) {
      const x = strip.x(shown[from][TIME]), width = Math.max(3, strip.x(shown[to][TIME]) - x);
      pen.fillStyle = colours.error;
      pen.globalAlpha = 0.12;
      pen.fillRect(x, strip.top, width, strip.bottom - strip.top);
      pen.globalAlpha = 0.4;
      pen.fillStyle = pattern;
      pen.fillRect(x, strip.top, width, strip.bottom - strip.top);
      pen.globalAlpha = 1;
    }
    from = to;
  }
}

function paintJumps(pen, strip, shown) {
  pen.strokeStyle = pen.fillStyle = colours.ink;
  pen.lineWidth = 1;
  let before = null;
  for (const point of shown) {
    const now = point[DEMONSTRATION];
    if (before !== null && now !== before) {
      const x = Math.round(strip.x(point[TIME])) + 0.5;
      pen.beginPath();
      pen.moveTo(x, strip.bottom);
      pen.lineTo(x, strip.bottom - 9);
      pen.stroke();
      pen.beginPath();
      pen.moveTo(x - 4, strip.bottom);
      pen.lineTo(x + 4, strip.bottom);
      pen.lineTo(x, strip.bottom - 6);
      pen.fill();
    }
    before = now;
  }
}

function paintTimes(pen, strip) {
  pen.strokeStyle = pen.fillStyle = colours.soft;
  pen.lineWidth = 1;
  pen.textBaseline = "top";
  const every = strip.right - strip.left < 420 ? 20 : 10;
  for (let back = 0; back <= SPAN; back += every) {
    const x = Math.round(strip.right - back / SPAN * (strip.right - strip.left)) + 0.5;
    pen.beginPath();
    pen.moveTo(x, strip.bottom);
    pen.lineTo(x, strip.bottom + 4);
    pen.stroke();
    pen.textAlign = back === 0 ? "right" : back === SPAN ? "left" : "center";
    pen.fillText(back === 0 ? "now" : `-${back} s`, back === 0 ? strip.right : x, strip.bottom + 6);
  }
}

// `time` is the server's clock at the right edge, s.
export function drawChart(time) {
  const width = canvas.clientWidth, height = canvas.clientHeight, ratio = window.devicePixelRatio || 1;
  if (!width || !height) return;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = FONT;
  const shown = points.filter((point) => point[TIME] >= time - SPAN && point[TIME] <= time + GAP);
  canvas.dataset.points = String(shown.length);

  const left = LEFT, right = width - RIGHT;
  const tall = (height - TOP - BETWEEN - BOTTOM) / 2;
  const x = (t) => Math.min(right, right - (time - t) / SPAN * (right - left));
  const stripOf = (top, axis) => ({ left, right, top, bottom: top + tall, x,
    y: (value) => top + tall - Math.min(1, Math.max(0, (value - axis.low) / (axis.high - axis.low))) * tall });
  const upperAxis = similarityAxis(shown), lowerAxis = scoreAxis(shown);
  const upper = stripOf(TOP, upperAxis), lower = stripOf(TOP + tall + BETWEEN, lowerAxis);
  for (const strip of [upper, lower]) {
    pen.fillStyle = colours.head;
    pen.fillRect(left, strip.top, right - left, tall);
  }
  paintFlags(pen, [upper, lower], shown);
  paintAxis(pen, upper, upperAxis, "similarity (1: the same)");
  const { threshold } = lowerAxis;
  paintAxis(pen, lower, lowerAxis, known(threshold) ? `score (threshold ${numberText(threshold)})` : "score");
  paintLine(pen, upper, shown, SIMILARITY, colours.accent);
  paintLine(pen, lower, shown, SCORE, colours.accent);
  if (lowerAxis.note !== "threshold far above this axis") paintLine(pen, lower, shown, THRESHOLD, colours.error, [8, 5]);
  paintJumps(pen, upper, shown);
  paintTimes(pen, lower);
  setText(byId("chart-note"), lowerAxis.note);
}
