// The sections of the page, in the order in which they are read; then all is put together.

// Charts and tables --------------------------------------------------------------------------

// What a column says at a time, in words.
const valueAt = (table, key, unit = "") => (t) => {
  const i = lastBefore(table.t, t);
  if (i < 0 || !table[key].length) return "";
  return t - table.t[i] > gapOf(table.t) ? `none since ${timeText(table.t[i])}` : numberText(table[key][i], unit);
};

function scoreAt(t) {
  const i = lastBefore(decisions.t, t);
  if (i < 0 || !decisions.score.length) return "not known";
  return `${numberText(decisions.score[i])}, threshold ${numberText(decisions.threshold[i])}`;
}

const latency = audit.latency;
function latencyAt(t) {
  const i = lastBefore(latency.t, t);
  if (i < 0) return "not known";
  if (t - latency.t[i] > gapOf(latency.t)) return `none since ${timeText(latency.t[i])}`;
  return numberText(latency.ms.reduce((sum, stage) => sum + (stage[i] || 0), 0), "ms");
}

function addSection(title, known, fill) {
  if (!known) { missing.push(title.toLowerCase()); return; }
  const section = element("section", { parent: byId("sections") });
  element("h2", { parent: section, text: title });
  fill(section);
}

const LONGEST = 500;  // rows that a table shows

// Cells are text, or {t} for a button that leads to a time.
function addTable(parent, columns, rows, numeric = []) {
  const kind = (i) => (numeric.includes(i) ? "number" : "");
  const body = element("tbody");
  for (const row of rows.slice(0, LONGEST)) {
    element("tr", { parent: body }, ...row.map((cell, i) => {
      if (cell === null || cell.t === undefined) return element("td", { className: kind(i), text: cell ?? "" });
      const link = element("button", { type: "button", className: "link", text: timeText(cell.t) });
      link.addEventListener("click", () => visit(cell.t));
      return element("td", { className: kind(i) }, link);
    }));
  }
  const head = element("tr", {}, ...columns.map((text, i) =>
    element("th", { className: kind(i), text, scope: "col" })));
  const table = element("table", {}, element("thead", {}, head), body);
  element("div", { parent, className: "wide", tabIndex: 0 }, table);
  if (rows.length > LONGEST) element("p", { parent, className: "note", text: `The first ${LONGEST} of ${rows.length}.` });
  return table;
}

function addMonitor(section) {
  const { t, similarity, score, threshold, demonstration, frame } = decisions;
  if (similarity.length) {
    addChart(section, { title: "Similarity", axis: axisOf([similarity], { levels: [1] }), read: valueAt(decisions, "similarity"),
      legend: [["line", "accent", "to the nearest demonstration frame"], ["strange", "error", "out of distribution"]],
      draw: (plot) => drawLine(plot, t, similarity, colours.accent) });
  }
  if (score.length) {
    const reach = MANY * (median(score) || 1);
    const far = threshold.length > 0 && threshold.every((value) => !(Math.abs(value) <= reach));
    const axis = far ? axisOf([score]) : axisOf([score, threshold], { usual: median(threshold), ratio: 8 });
    addChart(section, { title: "Score against the threshold", axis, read: scoreAt, height: 130,
      legend: [["line", "accent", "score"], ["dashed", "error", "threshold"]],
      draw: (plot) => {
        drawLine(plot, t, score, colours.accent);
        if (!far) drawLine(plot, t, threshold, colours.error, [7, 4]);
        else drawNote(plot, "threshold: far above this axis", plot.top + 14);
      } });
  }
  if (demonstration.length) {
    const spans = runs(t, demonstration, (value) => value >= 0);
    const used = new Set(spans.map((span) => span.value)).size;
    const axis = axisOf([frame], { low: 0 });
    const pieces = [];  // a line for each demonstration, so that a jump is no slope
    for (let from = 0, i = 1; i <= t.length; i++) {
      if (i < t.length && demonstration[i] === demonstration[from]) continue;
      if (demonstration[from] >= 0) {
        pieces.push({ t: t.subarray(from, i), frame: frame.subarray(from, i), demonstration: demonstration[from] });
      }
      from = i;
    }
    addChart(section, { title: "Recalled frame", height: 130, axis,
      read: (at) => { const i = lastBefore(t, at); return i < 0 ? "" : `${nameOf(demonstration[i])}, frame ${frame[i]}`; },
      legend: [["band", 0, `demonstration (${used} recalled)`], ["triangle", "ink", counted(audit.jumps.length, "jump")]],
      draw: (plot) => {
        const lower = { ...plot, y: (value) => plot.bottom - axis.share(value) * (plot.bottom - plot.top - 28) };
        drawBand(plot.pen, plot, spans, plot.top, 16, series, nameOf);
        for (const piece of pieces) {
          if (piece.t[piece.t.length - 1] < timeline.start || piece.t[0] > timeline.end) continue;
          drawLine(lower, piece.t, piece.frame, series(piece.demonstration));
        }
        for (const jump of audit.jumps) if (jump.t >= timeline.start && jump.t <= timeline.end) drawMark(plot.pen, "triangle", plot.x(jump.t), plot.top + 21, colours.ink, 3.5);
      } });
  }
  if (audit.jumps.length) {
    const place = ([number, at]) => `${nameOf(number)}, frame ${at}`;
    folded(section, `Jumps between demonstrations (${audit.jumps.length})`, (parent) => addTable(parent,
      ["time", "from", "to"], audit.jumps.map((jump) => [{ t: jump.t }, place(jump.from), place(jump.to)]), [0]));
  }
}

const LIMITED = [["linear_speed", "Linear speed", "m/s"], ["angular_speed", "Angular speed", "rad/s"],
  ["linear_acceleration", "Linear acceleration", "m/s²"],
  ["angular_acceleration", "Angular acceleration", "rad/s²"]];

function addCommands(section) {
  const { commands, limits, violations } = audit;
  for (const [key, title, unit] of LIMITED) {
    if (!commands[key].length) continue;
    const broken = violations.filter((violation) => violation.kind.replaceAll(" ", "_") === key);
    const levels = [limits[key], ...broken.map((violation) => violation.value)].filter(isNumber);
    const axis = axisOf([commands[key]], { levels, low: 0 });
    addChart(section, { title, unit, axis, height: 96, read: valueAt(commands, key),
      legend: [
        ...(isNumber(limits[key]) ? [["dashed", "error", `limit ${tickText(limits[key])} ${unit}`]] : []),
        ...(broken.length ? [["cross", "error", counted(broken.length, "violation")]] : []),
      ],
      draw: (plot) => {
        drawLine(plot, commands.t, commands[key], colours.accent);
        if (isNumber(limits[key])) drawLevel(plot, limits[key]);
        for (const violation of broken) {
          if (violation.t < timeline.start || violation.t > timeline.end) continue;
          drawMark(plot.pen, "cross", plot.x(violation.t), plot.y(violation.value), colours.error);
        }
      } });
  }
  if (violations.length) {
    folded(section, `Violations of limits (${violations.length})`, (parent) => addTable(parent,
      ["time", "what", "value", "limit"],
      violations.map((one) => [{ t: one.t }, one.kind, numberText(one.value), numberText(one.limit)]), [0, 2, 3]));
  } else element("p", { parent: section, className: "fine", text: "No command was outside the limits." });
}

// A long table starts folded.
function folded(parent, title, fill) {
  fill(element("details", { parent, className: "fold" }, element("summary", { text: title })));
}

function addCameras(section) {
  const { t, skew_ms: skew, intervals, drops } = audit.pairing;
  const views = Object.keys(intervals).filter((view) => intervals[view].t.length);
  if (views.length) {
    addChart(section, { title: "Time between pictures", unit: "ms", height: 120,
      axis: axisOf(views.map((view) => intervals[view].ms), { low: 0 }),
      read: (at) => views.map((view) => `${view} ${valueAt(intervals[view], "ms")(at) || "none"}`).join(", "),
      legend: views.map((view, i) => [`line dash${i % 4}`, i, view]),
      draw: (plot) => views.forEach((view, i) =>
        drawSteps(plot, intervals[view].t, intervals[view].ms, series(i), DASHES[i % 4])) });
  }
  if (t.length) {
    addChart(section, { title: "Skew between views", unit: "ms", axis: axisOf([skew], { low: 0 }), height: 90,
      read: valueAt(audit.pairing, "skew_ms"), draw: (plot) => drawLine(plot, t, skew, colours.accent) });
  }
  const reasons = Object.entries(drops).sort((a, b) => b[1] - a[1]);
  if (reasons.length) {
    addTable(section, ["dropped because", "count"],
      reasons.map(([reason, count]) => [reason, count.toLocaleString("en")]), [1]);
  } else element("p", { parent: section, className: "fine", text: "No picture was dropped." });
}

// A long interval is a bridge, not a gap: the value holds until the next.
function drawSteps(plot, times, values, colour, dash) {
  const { pen, x, y } = plot;
  const [from, to] = visible(times);
  if (to - from > 2 * (plot.right - plot.left)) return drawLine(plot, times, values, colour, dash);
  pen.strokeStyle = colour;
  pen.lineWidth = 1.5;
  pen.setLineDash(dash);
  pen.beginPath();
  for (let i = from; i <= to; i++) {
    if (i > from) pen.lineTo(x(times[i - 1]), y(values[i])); else pen.moveTo(x(times[i]), y(values[i]));
    pen.lineTo(x(times[i]), y(values[i]));
  }
  pen.stroke();
  return pen.setLineDash([]);
}

function addLatency(section) {
  const { t, ms, stages, p50, p99, total_p50: total50, total_p99: total99 } = latency;
  const totals = Float32Array.from(t, (_, i) => ms.reduce((sum, stage) => sum + (stage[i] || 0), 0));
  const gap = gapOf(t);
  const axis = axisOf([totals], { low: 0 });
  addChart(section, { title: "Sensor to command", unit: "ms", axis, height: 140, read: latencyAt,
    legend: stages.map((stage, i) => ["band", i, stage]), note: "stacked from below",
    draw: ({ pen, x, y }) => {
      const [from, to] = visible(t);
      for (let i = from; i <= to;) {  // of all in one column, the slowest
        const column = Math.floor(x(t[i]));
        let worst = i;
        for (; i <= to && Math.floor(x(t[i])) === column; i++) if (totals[i] > totals[worst]) worst = i;
        const next = i <= to ? Math.min(t[i], t[i - 1] + gap) : t[i - 1] + 0.05;
        const width = Math.max(1, Math.floor(x(next)) - column);
        let sum = 0;
        ms.forEach((stage, k) => {
          const level = y(sum);
          sum += stage[worst] || 0;
          pen.fillStyle = series(k);
          pen.fillRect(column, y(sum), width > 3 ? width - 1 : width, level - y(sum));
        });
      }
    } });
  const longest = Math.max(...p99.map((value) => value || 0), total50 || 0, 1e-9);
  let before = 0;
  const rows = stages.map((stage, i) => [stage, numberText(p50[i]), numberText(p99[i]), null]);
  const table = addTable(section, ["stage", "median (ms)", "p99 (ms)", "one after the other"],
    [...rows, ["in all", numberText(total50), numberText(total99), null]], [1, 2]);
  const cells = [...table.querySelectorAll("tbody tr")].map((row) => row.lastChild);
  stages.forEach((_, i) => {
    const bar = element("i", { parent: cells[i], className: "bar" });
    bar.style.marginLeft = `${100 * before / longest}%`;
    bar.style.width = `${100 * (p50[i] || 0) / longest}%`;
    bar.style.background = `var(--s${i % 8})`;
    before += p50[i] || 0;
    cells[i].className = "waterfall";
  });
}

function addChunks(section) {
  const { chunks, seams } = audit;
  if (chunks.t.length) {
    const axis = axisOf([chunks.distance_mm], { low: 0 });
    const copied = chunks.copied.reduce((sum, one) => sum + one, 0);
    addChart(section, { title: "Distance to the nearest training chunk", unit: "mm", axis,
      read: (at) => { const i = lastBefore(chunks.t, at);
        return i < 0 ? "" : `${numberText(chunks.distance_mm[i])}, ${nameOf(chunks.demonstration[i])}`; },
      legend: [["dot", "accent", `copied (${copied} of ${chunks.t.length})`], ["ring", "warning", "not copied"]],
      draw: (plot) => drawPoints(plot, chunks.t, chunks.distance_mm, (i) =>
        (chunks.copied[i] ? ["dot", colours.accent] : ["ring", colours.warning])) });
  }
  for (const [key, title, unit] of [["velocity_step", "Step of velocity at seams", "m/s"],
    ["acceleration_step", "Step of acceleration at seams", "m/s²"]]) {
    if (!seams.t.length) continue;
    addChart(section, { title, unit, axis: axisOf([seams[key]], { low: 0 }), height: 86, read: valueAt(seams, key),
      draw: (plot) => drawPoints(plot, seams.t, seams[key], () => ["dot", colours.accent], true) });
  }
}

function drawPoints(plot, times, values, look, stems = false) {
  const [from, to] = visible(times);
  const size = to - from > 400 ? 1 : 3;
  for (let i = from; i <= to; i++) {
    if (Number.isNaN(values[i])) continue;
    const [kind, colour] = look(i);
    const x = plot.x(times[i]), y = plot.y(values[i]);
    if (stems) { plot.pen.fillStyle = colour; plot.pen.fillRect(x - 0.5, y, 1, plot.bottom - y); }
    drawMark(plot.pen, kind, x, y, colour, size);
  }
}

function addStates(section) {
  const rows = stateSpans.map(({ start, end, value, reason }) =>
    [{ t: start }, value, reason, durationText(end - start)]);
  const columns = ["from", "state", "reason", "for"];
  addTable(section, columns, rows.slice(0, 12), [0, 3]);
  if (rows.length > 12) {
    folded(section, `${rows.length - 12} more`, (parent) => addTable(parent, columns, rows.slice(12), [0, 3]));
  }
}

function addParity(section) {
  element("p", { parent: section, className: "note",
    text: "What the robot logged, held against what the same code makes of the bag." });
  addTable(section, ["what", "logged", "equal", "not replayed", "different", "first difference"],
    audit.parity.map((one) => {
      const different = one.logged - one.equal - one.not_replayed;
      return [one.what, ...[one.logged, one.equal, one.not_replayed, different].map((n) => n.toLocaleString("en")),
        one.first_difference === null ? (different ? "not known" : "none") : { t: one.first_difference }];
    }), [1, 2, 3, 4, 5]);
}

// All together -------------------------------------------------------------------------------

readColours();
addHeader();
addStrip(byId("strip"));
addTransport();
addMoment();
addSection("Monitor", decisions.t.length, addMonitor);
addSection("Commands against limits", audit.commands.t.length, addCommands);
addSection("Cameras", audit.pairing.t.length || Object.values(audit.pairing.intervals).some(({ t }) => t.length),
  addCameras);
addSection("Latency", latency.t.length, addLatency);
addSection("Chunks and seams", audit.chunks.t.length || audit.seams.t.length, addChunks);
addSection("States of the executor", audit.states.length, addStates);
addSection("Parity of the replay", audit.parity.length, addParity);
addFindings();
if (missing.length) {
  const text = `Not in this bag, so not judged: ${missing.join(", ")}.`;
  element("p", { parent: byId("summary"), className: "note", text });
}

new ResizeObserver(() => refresh("paint")).observe(byId("work"));
new ResizeObserver(([{ target }]) => {  // what sticks below the strip must know its height
  byId("work").style.setProperty("--strip", `${target.offsetHeight}px`);
}).observe(byId("timeline"));
for (const query of ["(prefers-color-scheme: dark)", "print"]) {
  matchMedia(query).addEventListener("change", () => {
    readColours();
    painters.forEach((painter) => painter());  // at once: a printer does not wait
  });
}
const first = audit.findings.find((finding) => finding.severity !== "note");
if (first) visit(first.start, first.end); else moveTo(0);
refresh("paint");
