// What stands above and beside the charts: findings, the controls of time, the moment.

const KINDS = { ood: "out of distribution", camera: "camera", limits: "limits", latency: "latency",
  executor: "executor", parity: "parity", bag: "bag" };
const BADGES = { error: "✕", warning: "!", note: "i" };  // with the word beside it
const SHOWN = 6;  // findings before the others fold away
const missing = [];  // what the bag does not tell

// Header and findings ------------------------------------------------------------------------

function addHeader() {
  const told = [`policy ${audit.policy}`, `bundle ${audit.bundle}`, `${timeText(SECONDS, 1)} recorded`];
  if (audit.recorded) told.push(`from ${audit.recorded.replace("T", " ")}`);
  byId("meta").textContent = told.join("  ·  ");
  element("p", { parent: byId("summary"), text: audit.summary.join(" ") });
  element("p", { parent: byId("made"), text: `Made by: ${audit.command}` });
}

function findingButton(finding) {
  const button = element("button", { type: "button", className: `finding ${finding.severity}` },
    element("span", { className: "badge", text: BADGES[finding.severity], "aria-hidden": "true" }),
    element("span", { className: "when", text: timeText(finding.start) }),
    element("span", { className: "what", text: finding.text }),
    element("span", { className: "kind", text: `${finding.severity}, ${KINDS[finding.kind] || finding.kind}` +
      (finding.end > finding.start ? `, ${durationText(finding.end - finding.start)} long` : "") }));
  button.addEventListener("click", () => visit(finding.start, finding.end));
  followers.push(() => {
    const inside = timeline.now >= finding.start - 1e-9 && timeline.now <= finding.end + 1e-9;
    if (inside) button.setAttribute("aria-current", "true"); else button.removeAttribute("aria-current");
  });
  return element("li", {}, button);
}

function addFindings() {
  const parent = byId("findings");
  const counts = ["error", "warning", "note"].map((severity) =>
    [severity, audit.findings.filter((finding) => finding.severity === severity).length]);
  const bad = counts.slice(0, 2).some(([, count]) => count);
  const judged = byId("sections").childElementCount > 0;
  const text = bad ? counts.filter(([, count]) => count).map(([word, count]) => counted(count, word)).join(", ")
    : !judged ? "Nothing in this bag could be judged."
      : `Nothing went wrong${missing.length ? " in what was judged" : ""}: no error and no warning.`;
  const good = !bad && judged;
  const heading = element("h2", { parent, className: good ? "good" : "" });
  if (good) element("span", { parent: heading, className: "badge", text: "✓", "aria-hidden": "true" });
  heading.append(text);
  const rows = audit.findings.map(findingButton);
  if (rows.length) element("ol", { parent }, ...rows.slice(0, SHOWN));
  if (rows.length > SHOWN) {
    element("details", { parent },
      element("summary", { text: `${rows.length - SHOWN} more` }),
      element("ol", {}, ...rows.slice(SHOWN)));
  }
}

// Time ---------------------------------------------------------------------------------------

function addTransport() {
  const parent = byId("transport");
  const press = (text, title, action) => {
    const made = element("button", { parent, type: "button", text, title });
    made.addEventListener("click", action);
    return made;
  };
  const player = press("Play", "Play at real time (space)", () => play());
  press("Previous finding", "Previous finding (p)", () => nextFinding(-1)).disabled = !audit.findings.length;
  press("Next finding", "Next finding (n)", () => nextFinding(1)).disabled = !audit.findings.length;
  const slider = element("input", { parent, type: "range", id: "slider", min: 0, max: SECONDS,
    step: "any", "aria-label": "Time in seconds" });
  slider.addEventListener("input", () => { play(false); moveTo(slider.valueAsNumber); });
  press("Zoom in", "Zoom in (+)", () => zoom(0.5));
  press("Out", "Zoom out (-)", () => zoom(2));
  press("All", "Show the whole run (0, or double click)", () => show(0, SECONDS));
  const help = element("details", { parent, className: "keys" }, element("summary", { text: "Keys" }));
  for (const text of [
    "Arrows: one decision. Shift and arrows: 1 s. Space: play. Home, End. n, p: next, previous finding.",
    "Click or drag a chart or the strip: scrub. Shift and drag a chart: zoom into it. Double click: the whole run.",
    "Wheel on the strip, Ctrl and wheel on a chart, or pinch: zoom. Wheel sideways: pan. +, -, 0: zoom in, out, all.",
  ]) element("p", { parent: help, text });
  followers.push(() => {
    slider.value = timeline.now;
    slider.setAttribute("aria-valuetext", timeText(timeline.now));
    player.textContent = timeline.playing ? "Pause" : "Play";
  });
}

// The moment ---------------------------------------------------------------------------------

function picture(parent) {
  const figure = element("figure", { parent });
  const holder = element("div", { parent: figure, className: "picture" });
  const image = element("img", { parent: holder, alt: "", decoding: "sync" });
  const none = element("span", { parent: holder, text: "no picture" });
  const caption = element("figcaption", { parent: figure });
  return (data, text, strange = false) => {
    image.hidden = !data;
    none.hidden = Boolean(data);
    const source = data ? `data:image/jpeg;base64,${data}` : "";
    if (data && image.getAttribute("src") !== source) image.src = source;
    if (caption.textContent !== text) { caption.textContent = text; image.alt = text; }
    figure.classList.toggle("strange", strange);
  };
}

function clockText(t) {
  const start = audit.recorded ? Date.parse(audit.recorded) : NaN;
  return Number.isNaN(start) ? "" : new Date(start + 1000 * t).toISOString().slice(11, 23) + " UTC";
}

function addMoment() {
  const parent = byId("moment");
  const heading = element("h2", { parent });
  const time = element("span", { parent: heading, id: "time" });
  const clock = element("small", { parent: heading });
  const verdict = element("p", { parent, id: "verdict" });
  const pictures = element("div", { parent, id: "pictures" });
  const pairs = audit.views.map((view) => {
    const row = element("div", { parent: pictures, className: "pair" });
    return { view, live: picture(row), recalled: picture(row) };
  });
  const list = element("dl", { parent });
  const facts = Object.fromEntries(["State", "Similarity", "Score", "Strangest", "Recalled", "Latency",
    "Speed"].map((name) => {
    element("dt", { parent: list, text: name });
    return [name, element("dd", { parent: list })];
  }));

  followers.push(() => {
    const now = timeline.now;
    const i = lastBefore(decisions.t, now);
    const at = (column) => (i >= 0 && column.length ? column[i] : undefined);
    const demonstration = at(decisions.demonstration), frame = at(decisions.frame);
    const strange = at(decisions.flag) === 1, view = at(decisions.view);
    const late = i >= 0 && now - decisions.t[i] > gapOf(decisions.t);
    time.textContent = timeText(now);
    clock.textContent = clockText(now);
    // A camera that shows nothing gives no score.
    const blind = audit.causes[at(decisions.cause)] === "not_finite";
    const above = blind || at(decisions.score) > at(decisions.threshold);
    verdict.className = i < 0 ? "" : strange ? "strange" : above ? "above" : "familiar";
    verdict.textContent = i < 0 ? (decisions.t.length ? "No decision of the monitor yet" : "No monitor in this bag")
      : strange ? `Out of distribution${view >= 0 ? `: ${audit.views[view] ?? "a view"} looks strange` : ""}`
        : blind ? "A camera shows nothing, not flagged" : above ? "Above the threshold, not flagged" : "Familiar to the monitor";
    if (late) {
      verdict.className = strange ? "strange" : "above";
      verdict.textContent += `; no decision since ${timeText(decisions.t[i])}`;
    }

    const kept = demonstration >= 0 ? nearestRecalled(demonstration, frame) : null;
    const taken = Math.max(0, lastBefore(frames.live.t, now));
    const live = frames.live.pictures[taken] || [];
    const age = now - frames.live.t[taken];
    const aside = Math.abs(age) >= 0.1 ? ` (${numberText(Math.abs(age), "s")} ${age > 0 ? "ago" : "later"})` : "";
    pairs.forEach((pair, number) => {
      const blamed = strange && view === number;
      pair.live(live[number], `${pair.view}, live${aside}${blamed ? ": strange" : ""}`, blamed);
      const off = kept && kept.frame !== frame ? ` (picture: ${kept.frame})` : "";
      pair.recalled(kept && kept.pictures[number], demonstration >= 0
        ? `${pair.view}, ${nameOf(demonstration)}, frame ${frame}${off}` : `${pair.view}, nothing recalled`);
    });

    const state = stateSpans[lastBefore(stateTimes, now)];
    facts.State.textContent = state ? state.value + (state.reason ? `: ${state.reason}` : "") : "not known";
    facts.Similarity.textContent = numberText(at(decisions.similarity));
    facts.Score.textContent = scoreAt(now);
    const cause = at(decisions.cause);
    facts.Strangest.textContent = cause >= 0 ? audit.causes[cause] ?? "not known" : "no score";
    facts.Recalled.textContent = demonstration >= 0 ? `${nameOf(demonstration)}, frame ${frame}` : "nothing";
    facts.Latency.textContent = latencyAt(now);
    facts.Speed.textContent = valueAt(audit.commands, "linear_speed", "m/s")(now);
  });
}

