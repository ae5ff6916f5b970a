// Charts on canvases: axes, lines that keep every extreme, marks, and the strip of the whole run.

const MANY = 1e4;     // values this many times the usual one are drawn at the edge
const UNEVEN = 30;    // from this ratio of the largest to the usual value the axis is logarithmic
const TICK_STEPS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900,
  1800, 3600];
const DASHES = [[], [6, 3], [2, 3], [8, 3, 2, 3]];

let colours = {};
function readColours() {
  const style = getComputedStyle(document.documentElement);
  const names = ["ink", "soft", "line", "page", "head", "error", "warning", "note", "good",
    "accent", ...Array.from({ length: 8 }, (_, i) => `s${i}`)];
  colours = Object.fromEntries(
    names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}
const series = (i) => colours[`s${((i % 8) + 8) % 8}`];

function sizedCanvas(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.height = `${height}px`;
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = "11px system-ui, sans-serif";
  pen.lineJoin = "round";
  return pen;
}

function hatch(pen, colour) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 8;
  const brush = tile.getContext("2d");
  brush.strokeStyle = colour;
  brush.lineWidth = 1.6;
  brush.beginPath();
  for (const x of [-8, 0, 8]) { brush.moveTo(x - 1, 9); brush.lineTo(x + 9, -1); }
  brush.stroke();
  return pen.createPattern(tile, "repeat");
}

// Vertical axis ------------------------------------------------------------------------------

function median(values) {
  const some = [];
  const stride = Math.max(1, Math.floor(values.length / 4000));
  for (let i = 0; i < values.length; i += stride) {
    if (Number.isFinite(values[i])) some.push(Math.abs(values[i]));
  }
  some.sort((a, b) => a - b);
  return some.length ? some[some.length >> 1] : 0;
}

// An axis for all the columns: linear, or where a few values dwarf the others, linear up to the
// usual value and logarithmic beyond (an inverse hyperbolic sine, which takes zero and negatives).
// `levels` are values that must be on it, such as limits, `low` is one too; `usual` is that value
// where it is known.
function axisOf(columns, { levels = [], low = Infinity, usual = 0, ratio = UNEVEN } = {}) {
  let high = -Infinity;
  usual ||= Math.max(...columns.map(median), ...levels.filter(Number.isFinite).map(Math.abs), 0)
    || 1e-9;
  const reach = MANY * usual;
  let clipped = false;
  const take = (value) => {
    if (Number.isNaN(value)) return;
    if (Math.abs(value) > reach) clipped = true;
    else { if (value < low) low = value; if (value > high) high = value; }
  };
  columns.forEach((column) => column.forEach(take));
  levels.forEach(take);
  if (!(low <= high)) { low = 0; high = 1; }
  if (clipped) high = Math.max(high, 2 * usual);
  const uneven = Math.max(Math.abs(low), Math.abs(high)) > ratio * usual;
  const bent = uneven ? (value) => Math.asinh(value / usual) : (value) => value;
  const margin = (bent(high) - bent(low)) * 0.06 || Math.abs(bent(high)) * 0.1 || 1;
  const bottom = low === 0 ? 0 : bent(low) - margin;
  const top = bent(high) + margin;
  return {
    share: (value) => clamp((bent(value) - bottom) / (top - bottom), 0, 1),
    ticks: uneven ? powers(low, high, usual) : evenTicks(low, high, 4), uneven, clipped, usual,
  };
}

function evenTicks(low, high, count) {
  const rough = Math.max(high - low, 1e-12) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const found = [];
  for (let i = Math.ceil(low / step); i * step <= high * (1 + 1e-9) && found.length < 12; i++) {
    found.push(i * step);
  }
  return found;
}

function powers(low, high, usual) {
  const found = [0];
  for (let power = Math.floor(Math.log10(usual)); 10 ** power <= Math.max(high, -low); power++) {
    if (10 ** power <= high) found.push(10 ** power);
    if (-(10 ** power) >= low) found.push(-(10 ** power));
  }
  const stride = Math.ceil(found.length / 6);
  return found.filter((_, i) => i % stride === 0);
}

const tickText = (value) => (value !== 0 && (Math.abs(value) >= 1e4 || Math.abs(value) < 1e-3)
  ? value.toExponential(0) : String(Number(value.toPrecision(3))));

// Charts -------------------------------------------------------------------------------------

const TOP = 8, BOTTOM = 20;

// `draw` gets a plot: its pen, x(t), y(value), left, right, top, bottom; `read` says in words what
// is at a time; `legend` holds [kind, colour name or number, text].
function addChart(parent, { title, unit = "", height = 110, axis, draw, read, legend = [], note }) {
  const figure = element("figure", { parent, className: "chart" });
  const caption = element("figcaption", { parent: figure });
  element("span", { parent: caption, className: "name", text: unit ? `${title} (${unit})` : title });
  const reading = element("output", { parent: caption });
  const key = element("span", { parent: caption, className: "legend" });
  for (const [kind, colour, text] of legend) {
    const swatch = element("i", { className: `swatch ${kind}` });
    swatch.style.setProperty("--own", `var(--${typeof colour === "number" ? `s${colour % 8}` : colour})`);
    element("span", { parent: key }, swatch, text);
  }
  if (axis && axis.uneven) note = [note, "logarithmic axis"].filter(Boolean).join("; ");
  if (axis && axis.clipped) note = [note, "larger values at the edge"].filter(Boolean).join("; ");
  if (note) element("span", { parent: key, className: "remark", text: note });
  const holder = element("div", { parent: figure, className: "plot" });
  const canvas = element("canvas", { parent: holder, role: "img", "aria-label": `${title} over time` });
  const cursor = element("div", { parent: holder, className: "cursor" });
  const chosen = element("div", { parent: holder, className: "chosen" });

  const xOf = (t) => {
    const width = holder.clientWidth - LEFT - RIGHT;
    return LEFT + (t - timeline.start) / (timeline.end - timeline.start) * width;
  };
  gestures(holder, () => timeline, { selection: (from, to) => {
    chosen.hidden = from === null;
    if (from === null) return;
    chosen.style.left = `${xOf(Math.min(from, to))}px`;
    chosen.style.width = `${Math.abs(xOf(to) - xOf(from))}px`;
  } });
  chosen.hidden = true;

  painters.push(() => {
    const width = holder.clientWidth;
    const pen = sizedCanvas(canvas, width, height);
    const { start, end } = timeline;
    const scale = (width - LEFT - RIGHT) / (end - start);  // not asked of the page at every point
    const plot = {
      pen, x: (t) => LEFT + (t - start) * scale,
      left: LEFT, right: width - RIGHT, top: TOP, bottom: height - BOTTOM,
      y: (value) => height - BOTTOM - axis.share(value) * (height - BOTTOM - TOP),
    };
    paintStrange(plot);
    paintAxes(plot, axis);
    pen.save();
    pen.beginPath();
    pen.rect(plot.left, plot.top - 4, plot.right - plot.left, plot.bottom - plot.top + 8);
    pen.clip();
    draw(plot);
    pen.restore();
  });
  followers.push(() => {
    const x = xOf(timeline.now);
    cursor.hidden = x < LEFT - 1 || x > holder.clientWidth - RIGHT + 1;
    cursor.style.transform = `translateX(${x}px)`;
    reading.textContent = read(timeline.now);
  });
}

function paintStrange(plot, top = plot.top, bottom = plot.bottom) {
  const pattern = hatch(plot.pen, colours.error);
  for (const { start, end } of strangeSpans) {
    const x0 = Math.max(plot.x(start), plot.left), x1 = Math.min(plot.x(end), plot.right);
    if (x1 < plot.left || x0 > plot.right) continue;
    plot.pen.globalAlpha = 0.28;
    plot.pen.fillStyle = pattern;
    plot.pen.fillRect(x0, top, Math.max(1, x1 - x0), bottom - top);
    plot.pen.globalAlpha = 1;
  }
}

function paintAxes({ pen, x, y, left, right, top, bottom }, axis) {
  pen.strokeStyle = colours.line;
  pen.fillStyle = colours.soft;
  pen.lineWidth = 1;
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  const levels = [];
  for (const tick of axis ? axis.ticks : []) {
    const level = Math.round(y(tick)) + 0.5;
    if (levels.some((other) => Math.abs(other - level) < 12)) continue;
    levels.push(level);
    pen.beginPath(); pen.moveTo(left, level); pen.lineTo(right, level); pen.stroke();
    pen.fillText(tickText(tick), left - 6, level);
  }
  pen.beginPath(); pen.moveTo(left, bottom + 0.5); pen.lineTo(right, bottom + 0.5); pen.stroke();
  paintTimes(pen, x, timeline.start, timeline.end, left, right, bottom);
}

function paintTimes(pen, x, start, end, left, right, bottom) {
  const least = 74 * (end - start) / Math.max(1, right - left);
  const every = TICK_STEPS.find((candidate) => candidate >= least) || 3600;
  pen.textAlign = "center";
  pen.textBaseline = "top";
  pen.fillStyle = colours.soft;
  pen.strokeStyle = colours.soft;
  for (let i = Math.ceil(start / every - 1e-9); i * every <= end + 1e-9; i++) {
    const at = x(i * every);
    pen.beginPath(); pen.moveTo(at, bottom); pen.lineTo(at, bottom + 4); pen.stroke();
    pen.fillText(timeText(i * every, every < 0.1 ? 2 : every < 1 ? 1 : 0), at, bottom + 6);
  }
}

// The indices that the window shows, one more on either side.
function visible(times) {
  return [Math.max(0, lastBefore(times, timeline.start)),
    Math.min(times.length - 1, lastBefore(times, timeline.end) + 1)];
}

// A line; where several values share half a pixel, their first, least, greatest and last.
function drawLine({ pen, x, y }, times, values, colour, dash = []) {
  if (!values.length) return;
  const gap = gapOf(times);
  const [from, to] = visible(times);
  pen.strokeStyle = colour;
  pen.lineWidth = 1.5;
  pen.setLineDash(dash);
  pen.beginPath();
  let column = null, first, least, most, last, open = false;
  const flush = () => {
    if (column === null) return;
    if (open) pen.lineTo(column, first); else pen.moveTo(column, first);
    if (most > least) { pen.lineTo(column, least); pen.lineTo(column, most); }
    pen.lineTo(column + (open ? 0 : 0.5), last);
    open = true;
    column = null;
  };
  for (let i = from; i <= to; i++) {
    const value = values[i];
    if (Number.isNaN(value) || (i > from && times[i] - times[i - 1] > gap)) { flush(); open = false; }
    if (Number.isNaN(value)) continue;
    const here = Math.floor(x(times[i]) * 2) / 2, level = y(value);
    if (here !== column) { flush(); column = here; first = least = most = last = level; }
    else { least = Math.min(least, level); most = Math.max(most, level); last = level; }
  }
  flush();
  pen.stroke();
  pen.setLineDash([]);
}

function drawLevel({ pen, y, left, right }, value) {
  const level = Math.round(y(value)) + 0.5;
  pen.strokeStyle = colours.error;
  pen.setLineDash([7, 4]);
  pen.beginPath(); pen.moveTo(left, level); pen.lineTo(right, level); pen.stroke();
  pen.setLineDash([]);
}

function drawNote({ pen, right }, text, bottom) {
  pen.font = "11px system-ui, sans-serif";
  pen.textAlign = "right";
  pen.textBaseline = "bottom";
  pen.lineWidth = 3;
  pen.strokeStyle = colours.page;
  pen.strokeText(text, right - 4, bottom);
  pen.fillStyle = colours.error;
  pen.fillText(text, right - 4, bottom);
  pen.lineWidth = 1;
}

// Marks that differ in shape, not in colour alone.
function drawMark(pen, kind, x, y, colour, size = 5) {
  pen.fillStyle = pen.strokeStyle = colour;
  pen.lineWidth = 1.8;
  pen.beginPath();
  if (kind === "cross") {
    pen.moveTo(x - size, y - size); pen.lineTo(x + size, y + size);
    pen.moveTo(x - size, y + size); pen.lineTo(x + size, y - size);
    pen.stroke();
  } else if (kind === "triangle") {
    pen.moveTo(x, y - size); pen.lineTo(x + size, y + size); pen.lineTo(x - size, y + size);
    pen.fill();
  } else if (kind === "square" || size < 2) pen.fillRect(x - size, y - size, 2 * size, 2 * size);
  else {
    pen.arc(x, y, size, 0, 2 * Math.PI);
    if (kind === "ring") pen.stroke(); else pen.fill();
  }
  pen.lineWidth = 1;
}

function drawBand(pen, { x, left, right }, spans, top, height, colourOf, textOf) {
  pen.textAlign = "left";
  pen.textBaseline = "middle";
  for (const span of spans) {
    const x0 = Math.max(x(span.start), left), x1 = Math.min(x(span.end), right);
    if (x1 < left || x0 > right) continue;
    pen.globalAlpha = 0.4;
    pen.fillStyle = colourOf(span.value);
    pen.fillRect(x0, top, Math.max(1, x1 - x0), height);
    pen.globalAlpha = 1;
    pen.fillStyle = colours.page;
    if (x1 - x0 > 4) pen.fillRect(x1 - 1, top, 1, height);
    const text = textOf(span.value);
    if (pen.measureText(text).width + 8 > x1 - x0) continue;
    pen.fillStyle = colours.ink;
    pen.fillText(text, x0 + 4, top + height / 2 + 0.5);
  }
}

// The strip of the whole run -----------------------------------------------------------------

const STATE_COLOURS = { idle: "soft", armed: "s5", running: "s2", holding: "s4", returning: "s3",
  fallback: "s6", stopped: "soft", fault: "error" };
const SEVERITIES = { error: ["square", "error"], warning: ["triangle", "warning"], note: ["circle", "note"] };
const ROWS = { findings: [4, 22], strange: [30, 16], state: [50, 16], times: 68, height: 106 };

function addStrip(parent) {
  const canvas = element("canvas", { parent, role: "img", "aria-label": "The whole run" });
  const cursor = element("div", { parent, className: "cursor" });
  const bar = element("div", { parent, className: "window", title: "What the charts show: drag it, or its ends" },
    element("i", { className: "from" }), element("i", { className: "to" }));
  const xOf = (t) => LEFT + t / SECONDS * (parent.clientWidth - LEFT - RIGHT);
  gestures(parent, () => ({ start: 0, end: SECONDS }), { wheelZooms: true });
  windowBar(bar, parent);
  painters.push(() => {
    const width = parent.clientWidth;
    const pen = sizedCanvas(canvas, width, ROWS.height);
    const plot = {
      pen, x: (t) => LEFT + t / SECONDS * (width - LEFT - RIGHT), left: LEFT, right: width - RIGHT,
    };
    pen.fillStyle = colours.soft;
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    for (const name of ["findings", "strange", "state"]) {
      pen.fillText(name, LEFT - 6, ROWS[name][0] + ROWS[name][1] / 2 + 0.5);
    }
    pen.fillStyle = colours.head;
    for (const name of ["findings", "strange"]) {
      pen.fillRect(LEFT, ROWS[name][0], plot.right - LEFT, ROWS[name][1]);
    }
    for (const finding of [...audit.findings].reverse()) {  // the worst on top
      const [mark, colour] = SEVERITIES[finding.severity];
      const x0 = plot.x(finding.start), x1 = plot.x(finding.end);
      pen.globalAlpha = 0.35;
      pen.fillStyle = colours[colour];
      pen.fillRect(x0, ROWS.findings[0] + 6, Math.max(1, x1 - x0), 10);
      pen.globalAlpha = 1;
      drawMark(pen, mark, x0, ROWS.findings[0] + 11, colours[colour]);
    }
    const [top, tall] = ROWS.strange;
    pen.fillStyle = hatch(pen, colours.error);
    for (const { start, end } of strangeSpans) {
      pen.fillRect(plot.x(start), top, Math.max(2, plot.x(end) - plot.x(start)), tall);
    }
    drawBand(pen, plot, stateSpans, ...ROWS.state, (state) => colours[STATE_COLOURS[state]] || colours.s7,
      (state) => state);
    paintTimes(pen, plot.x, 0, SECONDS, LEFT, plot.right, ROWS.times);
    bar.style.left = `${xOf(timeline.start)}px`;
    bar.style.width = `${Math.max(10, xOf(timeline.end) - xOf(timeline.start))}px`;
  });
  followers.push(() => { cursor.style.transform = `translateX(${xOf(timeline.now)}px)`; });
}

function windowBar(bar, parent) {
  let drag = null;
  bar.addEventListener("pointerdown", (event) => {
    event.stopPropagation();
    bar.setPointerCapture(event.pointerId);
    drag = { kind: event.target.className, x: event.clientX, start: timeline.start, end: timeline.end };
  });
  bar.addEventListener("pointermove", (event) => {
    if (!drag) return;
    const by = (event.clientX - drag.x) * SECONDS / (parent.clientWidth - LEFT - RIGHT);
    if (drag.kind === "from") show(clamp(drag.start + by, 0, drag.end - SHORTEST), drag.end);
    else if (drag.kind === "to") show(drag.start, clamp(drag.end + by, drag.start + SHORTEST, SECONDS));
    else show(drag.start + by, drag.end + by);
  });
  for (const name of ["pointerup", "pointercancel"]) bar.addEventListener(name, () => { drag = null; });
}

