// What the cameras see, and beside it the frame that was recalled. One pair for each view.

import { byId, element, known, now, reportBroken, setText, spanText } from "./page.js";

const OLD = 1;  // s
const CRISP = 2;  // a picture scaled up by more than this keeps its pixels
const MOST_VIEWS = 8;
const NO_STORE = "no pictures of the demonstrations here: start the console with store:=FOLDER";

const views = new Map();
let decision = null, decidedAt = 0;

class Picture {
  constructor(parent, kind, view) {
    this.kind = kind;
    this.figure = element("figure", { parent, className: `picture ${kind}` });
    this.frame = element("div", { parent: this.figure, className: "frame" });
    this.canvas = element("canvas", { parent: this.frame, "data-test": `${kind}-${view}`, role: "img",
      "aria-label": kind === "live" ? `live picture, ${view}` : `recalled picture, ${view}` });
    this.canvas.hidden = true;
    this.note = element("p", { parent: this.frame, className: "empty" });
    this.age = element("p", { parent: this.frame, className: "age" });
    this.age.hidden = true;
    const caption = element("figcaption", { parent: this.figure });
    this.caption = element("span", { parent: caption, className: "what" });
    this.stampedAt = -Infinity;  // page clock, when a picture with a new stamp came
    this.head = null;
    this.next = null;
    this.busy = false;
  }

  async take(head, blob) {
    if (!this.head || head.stamp !== this.head.stamp || head.frame !== this.head.frame
      || head.demonstration !== this.head.demonstration) this.stampedAt = now();
    this.head = head;
    this.next = [head, blob];
    if (this.busy) return;  // the newest only: a slow device skips pictures
    this.busy = true;
    while (this.next) {
      const [drawn, bytes] = this.next;
      this.next = null;
      try {
        const bitmap = await createImageBitmap(bytes);
        this.draw(bitmap, drawn);
        bitmap.close();
      } catch (error) {
        console.warn(`a picture of ${drawn.view} cannot be read: ${error.message}`);
      }
    }
    this.busy = false;
  }

  draw(bitmap, head) {
    const { canvas } = this;
    if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
      canvas.width = bitmap.width;
      canvas.height = bitmap.height;
    }
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    canvas.hidden = false;
    canvas.dataset.stamp = head.stamp;
    this.fit();
  }

  fit() {
    const { canvas } = this;
    if (canvas.hidden) return;
    const scale = Math.min(canvas.clientWidth / canvas.width, canvas.clientHeight / canvas.height);
    canvas.classList.toggle("crisp", scale > CRISP);
  }

  showAge(connected) {
    const at = now();
    let age = at - this.stampedAt;
    if (this.kind === "recalled" && decision && this.head && this.head.demonstration === decision.demonstration
      && this.head.frame === decision.frame) age = Math.min(age, decision.age + at - decidedAt);  // still the one recalled
    const shown = !this.canvas.hidden;
    const old = shown && (age > OLD || !connected);
    this.canvas.classList.toggle("old", old);
    this.age.hidden = !old;
    if (old) setText(this.age, `${spanText(age)} old`);
    this.note.hidden = shown;
    if (!shown) {
      setText(this.note, this.kind === "live" ? "no picture has come yet" : decision ? NO_STORE : "no frame recalled yet");
    }
  }
}

const sizes = new ResizeObserver(() => views.forEach((pair) => { pair.live.fit(); pair.recalled.fit(); }));

function pairOf(view) {
  if (views.has(view)) return views.get(view);
  if (views.size >= MOST_VIEWS) return null;
  const box = byId("pictures");
  const group = element("div", { className: "pair", role: "group", "aria-label": view });
  const before = [...views.keys()].find((other) => other > view);  // the same order whichever comes first
  box.insertBefore(group, before === undefined ? null : views.get(before).group);
  const pair = { group, live: new Picture(group, "live", view), recalled: new Picture(group, "recalled", view) };
  setText(pair.live.caption, `${view}, live`);
  setText(pair.recalled.caption, "recalled");
  views.set(view, pair);
  box.dataset.views = String(views.size);
  byId("no-pictures").hidden = true;
  sizes.observe(group);
  return pair;
}

export function takePicture(head, blob) {
  const pair = pairOf(String(head.view));
  if (!pair || (head.picture !== "live" && head.picture !== "recalled")) return;
  const recalled = head.picture === "recalled";
  (recalled ? pair.recalled : pair.live).take(head, blob).catch(reportBroken);
  if (recalled && known(head.demonstration)) {
    setText(pair.recalled.caption, `recalled, demonstration ${head.demonstration}, frame ${head.frame}`);
  }
}

export function showDecisionOfPictures(newDecision, receivedAt) {
  decision = newDecision;
  decidedAt = receivedAt;
  const flagged = Boolean(decision && decision.flag);
  for (const [view, { group }] of views) {
    group.classList.toggle("flagged", flagged && (!decision.view || decision.view === view));
  }
}

export function showPictureAges(connected) {
  for (const { live, recalled } of views.values()) {
    live.showAge(connected);
    recalled.showAge(connected);
  }
}
