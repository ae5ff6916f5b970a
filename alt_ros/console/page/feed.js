// The feed: one WebSocket, opened again by itself. Bad or late data is told, never hidden.

import { guarded, now } from "./page.js";

const SILENCE = 2;  // s without any message, after which the connection counts as lost
const FIRST_WAIT = 0.5, LONGEST_WAIT = 5;  // s between attempts
const VIEWING_NEEDS_TOKEN = 4403;

// `on`: state(message, {first, receivedAt, lag}), picture(head, blob), connected(), lost(why).
export class Feed {
  constructor(token, on) {
    this.token = token;
    this.on = on;
    this.heardAt = now();  // the last message, or the start of the page
    this.everHeard = false;
    this.connected = false;
    this.wait = FIRST_WAIT;
    this.timer = null;
    this.socket = null;
    window.addEventListener("online", () => this.retry());
    document.addEventListener("visibilitychange", () => { if (!document.hidden) this.retry(); });
  }

  start() {
    setInterval(() => this.watch(), 250);
    this.open();
  }

  open() {
    clearTimeout(this.timer);
    this.timer = null;
    this.openedAt = now();
    const address = `${location.protocol === "https:" ? "wss:" : "ws:"}//${location.host}/live`;
    const token = this.token();
    let socket;
    try {
      socket = new WebSocket(address, token ? ["alt", `token.${token}`] : ["alt"]);
    } catch {
      this.lose("");
      return;
    }
    this.socket = socket;
    socket.binaryType = "arraybuffer";
    this.least = Infinity;  // page clock minus the server's, with the least delay seen
    this.told = -Infinity;
    this.first = true;
    socket.addEventListener("message", ({ data }) => {
      if (socket !== this.socket) return;
      this.heardAt = now();
      guarded(() => (typeof data === "string" ? this.readText(data) : this.readPicture(data)));
      if (typeof data === "string") socket.send("seen");  // the next is sent when this one has come
    });
    socket.addEventListener("close", ({ code }) => {
      if (socket !== this.socket) return;
      this.lose(code === VIEWING_NEEDS_TOKEN ? "token" : "");
    });
  }

  readText(text) {
    const message = JSON.parse(text);
    if (message.type !== "state") return;
    const receivedAt = now();
    if (message.time < this.told) this.least = Infinity;  // the server's clock was set
    this.told = message.time;
    this.least = Math.min(this.least, receivedAt - message.time);
    const { first } = this;
    this.first = false;
    this.wait = FIRST_WAIT;
    this.everHeard = true;
    if (!this.connected) {
      this.connected = true;
      this.on.connected();
    }
    this.on.state(message, { first, receivedAt, lag: receivedAt - message.time - this.least });
  }

  readPicture(data) {
    const length = new DataView(data).getUint32(0);
    const head = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
    this.on.picture(head, new Blob([new Uint8Array(data, 4 + length)], { type: "image/jpeg" }));
  }

  // A line that is dead, but not closed, is given up and opened anew.
  watch() {
    if (this.socket && now() - Math.max(this.heardAt, this.openedAt) > SILENCE) this.lose("");
  }

  lose(why) {
    const { socket } = this;
    this.socket = null;
    if (socket) socket.close();
    this.connected = false;
    this.on.lost(why);
    clearTimeout(this.timer);
    this.timer = null;
    this.locked = why === "token";
    if (this.locked) return;  // until a token is there
    this.timer = setTimeout(() => this.open(), this.wait * 1000);
    this.wait = Math.min(2 * this.wait, LONGEST_WAIT);
  }

  // At once, where nothing is open.
  retry({ locked = false } = {}) {
    if (this.socket || (this.locked && !locked)) return;
    this.locked = false;
    this.open();
  }
}
