// The control token: from the address's fragment or typed, kept for this tab only.

const KEY = "alt-control-token";
const ALLOWED = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;  // what a subprotocol and a header can carry
const listeners = [];
let held = "";

try {
  held = sessionStorage.getItem(KEY) || "";
} catch {
  held = "";  // no storage in this browser: kept while the page is open
}

function readFragment() {
  const found = /(?:^#|&)token=([^&]*)/.exec(location.hash);
  if (!found) return;
  history.replaceState(null, "", location.pathname + location.search);
  let value = found[1];
  try {
    value = decodeURIComponent(value);
  } catch {
    value = found[1];
  }
  keepToken(value);
}

export const token = () => held;
export const tokenIsUsable = (value) => ALLOWED.test(value);
export const onToken = (listener) => listeners.push(listener);

export function keepToken(value) {
  held = tokenIsUsable(value) ? value : "";
  try {
    if (held) sessionStorage.setItem(KEY, held);
    else sessionStorage.removeItem(KEY);
  } catch {
    // kept while the page is open
  }
  for (const listener of listeners) listener(held);
}

readFragment();
window.addEventListener("hashchange", readFragment);
