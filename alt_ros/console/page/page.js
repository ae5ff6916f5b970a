// Small things that every part of the page uses.

export const byId = (id) => document.getElementById(id);

// Writes only what has changed, so that a screen reader is not told the same twice.
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function element(name, { parent, text, className, ...attributes } = {}, ...children) {
  const node = document.createElement(name);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  if (parent) parent.append(node);
  return node;
}

// Seconds on the page's own clock, which nobody sets.
export const now = () => performance.now() / 1000;

export const known = (value) => typeof value === "number" && Number.isFinite(value);

export function numberText(value, digits = 3) {
  if (!known(value)) return "-";
  const size = Math.abs(value);
  if (value !== 0 && (size >= 1e5 || size < 1e-3)) return value.toExponential(1);
  return Number(value.toPrecision(digits)).toString();
}

// With all its digits, so that a number that changes does not jump about.
export function steadyText(value) {
  if (!known(value)) return "not known";
  const size = Math.abs(value);
  if (size >= 1e5 || (value !== 0 && size < 1e-3)) return value.toExponential(1);
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 2);
}

export const msText = (value) => (known(value) ? `${value < 10 ? value.toFixed(1) : Math.round(value)} ms` : "-");

// How long, in the fewest words: 3.2 s, 47 s, 5 min 03 s, 2 h 05 min.
export function spanText(seconds) {
  if (!known(seconds)) return "-";
  if (seconds < 9.95) return `${Math.max(0, seconds).toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const pad = (value) => String(value).padStart(2, "0");
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${pad(whole % 60)} s`;
  return `${Math.floor(whole / 3600)} h ${pad(Math.floor((whole % 3600) / 60))} min`;
}

export function clockText(seconds) {
  const date = seconds === undefined ? new Date() : new Date(seconds * 1000);
  return [date.getHours(), date.getMinutes(), date.getSeconds()].map((part) => String(part).padStart(2, "0")).join(":");
}

// A part that fails must not silence the others; the page says that it is broken.
export function guarded(work) {
  try {
    return work();
  } catch (error) {
    reportBroken(error);
    return undefined;
  }
}

export function reportBroken(error) {
  console.error(error);
  const banner = byId("broken");
  banner.hidden = false;
  setText(banner, `a part of this page has failed (${String((error && error.message) || error).slice(0, 160)}): reload the page`);
}
