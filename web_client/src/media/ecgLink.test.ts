import { decode, encode } from "@msgpack/msgpack";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Consult, DataProducerInfo } from "../protocol";
import type { EcgChannel } from "../waveform/channel";
import { Receiver } from "../waveform/receiver";
import { bytesOf, readVectors } from "../waveform/vectors";
import { EcgLink, type OpenSocket } from "./ecgLink";
import type { SocketEvents } from "./ecgLinkSocket";
import type { Leg } from "./leg";

const info = (id: string): DataProducerInfo => ({
  id,
  participant: "monitor",
  label: "ecg",
  protocol: "",
  waveform: {
    stream_id: 7,
    leads: ["I"],
    sample_rate_mhz: 500_000,
    lsb_nv: 2_500,
    device: "monitor",
    filter: "",
    simulated: true,
    patient: "p",
  },
  vitals: null,
});

/** A transport whose channels open at once; what arrives and what is sent can be seen. */
function openLeg() {
  const inbox = new Map<string, (bytes: ArrayBuffer) => void>();
  const sent: Uint8Array[] = [];
  const channel = { once: () => undefined, close: () => undefined };
  const leg = {
    consumeData: async (id: string, onMessage: (bytes: ArrayBuffer) => void) => {
      inbox.set(id, onMessage);
      return channel;
    },
    produceData: async () => ({ ...channel, send: (bytes: Uint8Array) => void sent.push(bytes) }),
  };
  return { leg: leg as unknown as Leg, inbox, sent };
}

const bytes = (...values: number[]): ArrayBuffer => new Uint8Array(values).buffer;

describe("the ECG's channels", () => {
  it("keep what the relay says of pictures from the views, and ask it for the time while `ctl` is open", async () => {
    const link = new EcgLink(() => undefined);
    const channel = link.channel(7);
    const heard: unknown[] = [];
    channel.onControl((message) => heard.push(decode(message)));
    const { leg, inbox, sent } = openLeg();
    await link.openControl(leg);
    link.tend(performance.now());
    expect(sent).toEqual([]);
    await link.listen(leg);
    link.tend(performance.now());
    const asked = sent.map((message) => decode(message) as { t: string; c: number });
    expect(asked.map(({ t }) => t)).toEqual(["ping"]);

    const s = 1_790_000_000_000_000;
    const say = (message: object) => inbox.get("ctl")?.(encode(message).slice().buffer);
    say({ t: "pong", c: asked[0]?.c, s });
    say({ t: "map", of: [{ producer: "cam", ssrc: 1, rtp: 5, s, rate: 90_000, how: "capture", err: null }] });
    say({ t: "gone", stream: 7, first: 1, last: 1 });
    const nowMs = performance.now();
    link.pictures.onShown("cam", 5, nowMs + 200);
    expect(heard).toEqual([{ t: "gone", stream: 7, first: 1, last: 1 }]);
    expect(link.pictures.age("cam", nowMs + 200)?.isLeast).toBe(false);
  });

  it("are open only when frames and control can both flow", async () => {
    const link = new EcgLink(() => undefined);
    const channel = link.channel(7);
    const { leg, sent } = openLeg();

    await link.consume(leg, info("d1"));
    await link.openControl(leg);
    channel.sendControl(new Uint8Array([1]));
    expect([channel.open, sent.length]).toEqual([false, 0]);

    await link.listen(leg);
    channel.sendControl(new Uint8Array([2]));
    expect([channel.open, sent.length]).toEqual([true, 1]);
  });

  it("stay the same object through a reset, closed meanwhile, so that the view asks for what it missed", async () => {
    const link = new EcgLink(() => undefined);
    const channel = link.channel(7);
    const opens: boolean[] = [];
    const frames: number[] = [];
    channel.onOpenChange((open) => opens.push(open));
    channel.onFrame((message) => frames.push(new Uint8Array(message)[0] ?? -1));

    for (const id of ["d1", "d2"]) {
      const { leg, inbox } = openLeg();
      await Promise.all([link.consume(leg, info(id)), link.openControl(leg), link.listen(leg)]);
      inbox.get(id)?.(bytes(opens.length));
      link.detach();
    }

    expect(link.channel(7)).toBe(channel);
    expect([opens, frames, [...link.held]]).toEqual([[true, false, true, false], [1, 3], []]);
  });

  it("throw away what finished opening after a reset", async () => {
    const link = new EcgLink(() => undefined);
    const { leg } = openLeg();
    const late = Promise.all([link.consume(leg, info("d1")), link.openControl(leg), link.listen(leg)]);
    link.detach();
    await late;

    expect([link.channel(7).open, link.sources]).toEqual([false, []]);
  });

  it("give each listener a buffer of its own, since one may transfer it away", async () => {
    const link = new EcgLink(() => undefined);
    const { leg, inbox } = openLeg();
    const taken: ArrayBuffer[] = [];
    link.channel(7).onFrame((message) => taken.push(message));
    link.channel(7).onFrame((message) => taken.push(message));
    await link.consume(leg, info("d1"));

    inbox.get("d1")?.(bytes(9));

    expect(taken[0]).not.toBe(taken[1]);
    expect(taken.map((message) => [...new Uint8Array(message)])).toEqual([[9], [9]]);
  });
});

/** Twelve messages of a real record: stream 7, context 3, simulated, each with the frame before. */
const MESSAGES = readVectors()
  .good.filter(({ name }) => name.startsWith("dicom"))
  .map(({ message }) => bytesOf(message));

const monitor: DataProducerInfo = {
  ...info("d1"),
  waveform: {
    stream_id: 7,
    leads: ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"],
    sample_rate_mhz: 1_000_000,
    lsb_nv: 1250,
    device: "monitor",
    filter: "",
    simulated: true,
    patient: "p",
  },
};
const vitals: DataProducerInfo = {
  ...info("v1"),
  label: "vitals",
  waveform: null,
  vitals: { device: "monitor", simulated: true, patient: "p" },
};

const consult = (sources: readonly DataProducerInfo[], version = 3, patient = "p"): Consult =>
  ({
    context: { version, patient: { id: patient } },
    data_producers: Object.fromEntries(sources.map((source) => [source.id, source])),
    mismatches: {},
  }) as unknown as Consult;

/** A socket held in the test's hands. */
function fakeSocket() {
  const opened: SocketEvents[] = [];
  const sent: Record<string, unknown>[] = [];
  const state = { open: false, closed: 0 };
  const open: OpenSocket = (events) => {
    opened.push(events);
    return {
      get open() {
        return state.open;
      },
      sendControl: (message) => void sent.push(decode(message) as Record<string, unknown>),
      close: () => {
        state.closed += 1;
        state.open = false;
      },
    };
  };
  return { open, opened, sent, state };
}

/** What a view does with its channel. */
function view(channel: EcgChannel): Receiver {
  const stream = monitor.waveform;
  if (stream === null) throw new Error("no stream");
  const receiver = new Receiver(stream, 3, {
    send: (message) => channel.sendControl(message),
    stored: () => undefined,
    cleared: () => undefined,
    hidden: () => undefined,
  });
  channel.onFrame((message) => receiver.onMessage(new Uint8Array(message), performance.now() * 1000));
  channel.onOpenChange((open) => {
    if (open) receiver.onOpen();
  });
  return receiver;
}

const stored = (receiver: Receiver): number =>
  Array.from({ length: 600 }, (_, place) => place).filter((place) => receiver.buffer.received(place)).length;

const copy = (message: Uint8Array | undefined): ArrayBuffer => new Uint8Array(message ?? []).buffer;

describe("the way of waveforms", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it("is the socket after 3 s without a data channel, in a page that has never had one", async () => {
    const link = new EcgLink(() => undefined);
    const socket = fakeSocket();
    link.allowSocket(socket.open);
    link.follow(consult([monitor]));
    const receiver = view(link.channel(7));

    await vi.advanceTimersByTimeAsync(2_750);
    expect(socket.opened).toHaveLength(0);
    await vi.advanceTimersByTimeAsync(500);
    expect(socket.opened).toHaveLength(1);
    socket.state.open = true;
    socket.opened[0]?.onOpen();
    expect([link.channel(7).open, link.news.getState().way]).toEqual([true, "socket"]);

    for (const message of MESSAGES) socket.opened[0]?.onMessage(copy(message));
    expect(stored(receiver)).toBe(600);
    link.dispose();
    expect(socket.state.closed).toBe(1);
  });

  it("loses nothing and repeats nothing over a stall, a switch to the socket, and back", async () => {
    const link = new EcgLink(() => undefined);
    const socket = fakeSocket();
    const { leg, inbox, sent } = openLeg();
    link.allowSocket(socket.open);
    link.follow(consult([monitor]));
    await Promise.all([link.consume(leg, monitor), link.openControl(leg), link.listen(leg)]);
    const receiver = view(link.channel(7));
    const byData = (k: number) => inbox.get("d1")?.(copy(MESSAGES[k]));
    const bySocket = (k: number) => socket.opened[0]?.onMessage(copy(MESSAGES[k]));

    for (let k = 0; k < 4; k += 1) {
      byData(k);
      await vi.advanceTimersByTimeAsync(100);
    }
    expect(socket.opened).toHaveLength(0);
    await vi.advanceTimersByTimeAsync(1_500);
    expect(socket.opened).toHaveLength(1);
    socket.state.open = true;
    socket.opened[0]?.onOpen();

    // What came until now is told on the new way; the socket answers with what is missing, and goes on live.
    expect(socket.sent.filter(({ t }) => t === "have")).toEqual([
      { t: "have", stream: 7, seq: receiver.tracker.newestSeq },
    ]);
    for (let k = 2; k < 8; k += 1) bySocket(k);
    // Both run while the data channel proves itself; it brings what the socket brought, and more.
    for (let k = 6; k < 12; k += 1) {
      byData(k);
      await vi.advanceTimersByTimeAsync(250);
      if (k < 11) bySocket(k);
    }
    expect(link.news.getState().way).toBe("data");
    expect(sent.map((message) => decode(message) as { t: string }).filter(({ t }) => t === "have")).toHaveLength(1);

    expect(stored(receiver)).toBe(600);
    expect(receiver.buffer.overlapping).toBe(0);
    expect(receiver.tracker.missing).toEqual([]);
    expect(receiver.tracker.duplicates).toBeGreaterThan(0);
    expect(link.channel(7).open).toBe(true);
    link.dispose();
  });

  it("opens no socket for the ECG of a patient who is not open", async () => {
    const link = new EcgLink(() => undefined);
    const socket = fakeSocket();
    link.allowSocket(socket.open);
    link.follow(consult([monitor], 3, "somebody else"));
    await vi.advanceTimersByTimeAsync(10_000);
    expect(socket.opened).toHaveLength(0);
    link.dispose();
  });
});

describe("vital signs", () => {
  const value = { t: "vital", cv: 3, code: "HR", v: 72, u: "/min", at: 1, q: "ok", sim: false };

  it("(W24) are those of the open patient's devices and context, and gone with it", async () => {
    const link = new EcgLink(() => undefined);
    const { leg, inbox } = openLeg();
    link.follow(consult([vitals]));
    await link.consume(leg, vitals);
    const send = (message: object) => inbox.get("v1")?.(copy(encode(message)));

    send({ ...value, cv: 2 });
    expect(link.news.getState().vitals.values).toEqual({});
    send(value);
    // (W9) What a simulated device sends is marked, whatever the message says.
    expect(link.news.getState().vitals.values.HR).toMatchObject({ value: 72, simulated: true });

    link.follow(consult([vitals], 4, "q"));
    expect(link.news.getState().vitals.values).toEqual({});
    send({ ...value, cv: 4 });
    expect(link.news.getState().vitals.values).toEqual({});
  });

  it("(W22) of a device that turns out to be somebody else's are gone, and do not come back with its next binding", async () => {
    const link = new EcgLink(() => undefined);
    const { leg, inbox } = openLeg();
    const bound = consult([vitals]);
    const blocked = { ...bound, mismatches: { monitor: { device: "monitor", patient: "p" } } } as unknown as Consult;
    link.follow(bound);
    await link.consume(leg, vitals);
    const send = (message: object) => inbox.get("v1")?.(copy(encode(message)));
    const values = () => Object.keys(link.news.getState().vitals.values);
    send({ ...value, code: "NIBP", v: [128, 74, 92], u: "mm[Hg]" });
    expect(values()).toEqual(["NIBP"]);
    link.follow(blocked);
    expect(values()).toEqual([]);
    // While it stays blocked, another device's numbers stand.
    send({ ...value });
    link.follow({ ...blocked });
    expect(values()).toEqual(["HR"]);
    link.follow(bound);
    expect(values()).toEqual(["HR"]);
  });

  it("come by socket as well, told apart from frames by their bytes", () => {
    const link = new EcgLink(() => undefined);
    const socket = fakeSocket();
    link.follow(consult([monitor]));
    link.allowSocket(socket.open, "socket");
    socket.opened[0]?.onMessage(copy(encode(value)));
    socket.opened[0]?.onMessage(copy(new Uint8Array([0xc1, 1])));
    socket.opened[0]?.onMessage(copy(MESSAGES[0]));
    expect(link.news.getState().vitals.values.HR?.value).toBe(72);
    link.dispose();
  });
});
