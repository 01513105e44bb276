/**
 * What a witness's page notes about itself, before any script of the page runs. The driver takes it once a second.
 *
 * forward_ms: an encoded picture's last packet ends with where it comes from and when it was sent (`trailer`); the
 *   browser hands the picture over when all of it has arrived, so the figure is of the last packet of each picture.
 * event_ms: a page turn's item says when the lead asked for it; `turn_shown_ms` is when the record shows the page.
 * ecg_age_ms: the age that the view itself states, ten times a second while it says LIVE.
 */
(() => {
  const notes = { forward_ms: [], event_ms: [], turn_shown_ms: [], ecg_age_ms: [], ecg_looks: 0, ecg_live: 0 };
  const most = 5_000;
  const note = (name, value) => {
    if (notes[name].length < most) notes[name].push(value);
  };
  const connections = new Set();
  const fields = [
    "kind", "packetsReceived", "packetsLost", "framesDecoded", "framesDropped", "freezeCount", "jitterBufferDelay",
    "jitterBufferEmittedCount",
  ];
  const tracks = async () => {
    const found = [];
    for (const connection of connections) {
      if (connection.connectionState === "closed") continue;
      for (const one of (await connection.getStats()).values()) {
        if (one.type !== "inbound-rtp") continue;
        found.push({ id: `${one.id}-${one.ssrc}`, ...Object.fromEntries(fields.map((name) => [name, one[name] ?? 0])) });
      }
    }
    return found;
  };
  window.__witness = {
    take: async () => {
      const taken = { ...notes, tracks: await tracks() };
      for (const name of Object.keys(notes)) notes[name] = Array.isArray(notes[name]) ? [] : 0;
      return { ...taken, clickToFirstFrameMs: (await window.__consilium?.stats())?.clickToFirstFrameMs ?? null };
    },
  };

  const clock = `
    const tick = Date.now();
    while (Date.now() === tick);
    const offset = Date.now() - performance.now();
    const wall = () => performance.now() + offset;`;
  const wall = new Function(`${clock} return wall;`)();

  // ------------------------------------------------------------ pictures
  const source = `${clock}
    const seen = [];
    onrtctransform = ({ transformer }) => {
      const look = new TransformStream({
        transform(frame, out) {
          const at = wall();
          const end = new DataView(frame.data, Math.max(0, frame.data.byteLength - 16));
          if (end.byteLength === 16 && end.getUint32(0) === 0x434c4431) {
            const sentMs = (end.getUint32(8) * 2 ** 32 + end.getUint32(12)) / 1e6;
            if (sentMs > 0) seen.push(at - sentMs);
          }
          out.enqueue(frame);
        },
      });
      transformer.readable.pipeThrough(look).pipeTo(transformer.writable).catch(() => {});
    };
    setInterval(() => postMessage(seen.splice(0)), 500);`;
  const Connection = window.RTCPeerConnection;
  let worker = null;
  window.RTCPeerConnection = class extends Connection {
    constructor(...options) {
      super(...options);
      connections.add(this);
      this.addEventListener("track", ({ track, receiver }) => {
        if (track.kind !== "video" || window.RTCRtpScriptTransform === undefined) return;
        if (worker === null) {
          worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
          worker.onmessage = ({ data }) => {
            for (const age of data) note("forward_ms", age);
          };
        }
        receiver.transform = new RTCRtpScriptTransform(worker, {});
      });
    }
  };

  // ------------------------------------------------------------ page turns
  const turned = /page_turned/;
  const asked = /load-(\d{16})/;
  const pages = /(summary|labs|medications|vitals|reports)/;
  const due = new Map();
  const text = new TextDecoder("latin1");
  const Socket = window.WebSocket;
  window.WebSocket = class extends Socket {
    constructor(...options) {
      super(...options);
      this.addEventListener("message", ({ data }) => {
        if (!(data instanceof ArrayBuffer) || data.byteLength > 4_096) return;
        const said = text.decode(data);
        if (!turned.test(said) || !asked.test(said)) return;
        const askedMs = Number(asked.exec(said)[1]) / 1_000;
        note("event_ms", wall() - askedMs);
        due.clear();
        const page = pages.exec(said)?.[1];
        if (page !== undefined) due.set(page, askedMs);
      });
    }
  };
  const shown = () => {
    const page = document.querySelector("[data-testid=record-page]")?.getAttribute("data-page");
    const askedMs = due.get(page);
    if (askedMs === undefined) return;
    due.delete(page);
    note("turn_shown_ms", wall() - askedMs);
  };
  document.addEventListener("DOMContentLoaded", () => {
    new MutationObserver(shown).observe(document.body, { subtree: true, childList: true, attributes: true });
  });

  // ------------------------------------------------------------ ECG
  setInterval(() => {
    const view = document.querySelector("[data-testid=ecg]");
    if (view === null) return;
    notes.ecg_looks += 1;
    if (view.dataset.state !== "LIVE") return;
    notes.ecg_live += 1;
    if (view.dataset.ageMs) note("ecg_age_ms", Number(view.dataset.ageMs));
  }, 100);
})();
