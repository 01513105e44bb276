import { FakeMediaStreamTrack } from "fake-mediastreamtrack";
import { Device } from "mediasoup-client";
import * as fake from "mediasoup-client/fakeParameters";
import { FakeHandler } from "mediasoup-client/handlers/FakeHandler";
import { afterEach, describe, expect, it, vi } from "vitest";
import { RefusalError } from "../net/refusal";
import { type AnyCommand, type Consult, NO_TRACE, type Participant, type ProducerInfo } from "../protocol";
import { toWire } from "./ortc";
import { MediaSession } from "./session";

const person = (id: string): Participant => ({
  id,
  role: "doctor",
  name: id,
  hospital: "",
  screen: null,
  screen_number: null,
  connection: "connected",
  joined_at_ms: 0,
  context_seen: 0,
  simulated: false,
  hub: false,
});

const producer = (id: string, participant: string, kind: "audio" | "video"): ProducerInfo => ({
  id,
  participant,
  kind,
  source: kind === "video" ? "camera" : "microphone",
  label: "",
  paused: false,
});

const consult = (media_epoch: number, producers: readonly ProducerInfo[]): Consult => ({
  id: "c",
  revision: 0,
  title: "",
  status: "open",
  limit: 50,
  participants: { me: person("me"), room: person("room") },
  context: null,
  context_version: 0,
  lead: null,
  view: { page: "summary", item: "" },
  media_epoch,
  producers: Object.fromEntries(producers.map((info) => [info.id, info])),
  data_producers: {},
  ...NO_TRACE,
});

/** Answers as the server would, in mediasoup-client's own made-up parameters, and remembers what it was asked. */
class Server {
  readonly asked: AnyCommand[] = [];
  refuse: (command: AnyCommand) => boolean = () => false;
  private count = 0;

  readonly send = async (command: AnyCommand): Promise<never> => {
    this.asked.push(command);
    if (this.refuse(command)) throw new RefusalError({ code: "media_unavailable", en: "", zh: "" });
    return this.answer(command) as never;
  };

  of<T extends AnyCommand["type"]>(type: T): Extract<AnyCommand, { type: T }>[] {
    return this.asked.filter((command): command is Extract<AnyCommand, { type: T }> => command.type === type);
  }

  private answer(command: AnyCommand): object {
    this.count += 1;
    if (command.type === "create_transport") {
      const remote = fake.generateTransportRemoteParameters();
      return {
        id: `t${this.count}`,
        ice_parameters: toWire(remote.iceParameters),
        ice_candidates: ["udp", "tcp"].map((protocol) => ({ ...remote.iceCandidates[0], protocol })),
        ice_servers: [],
        dtls_parameters: toWire(remote.dtlsParameters),
        sctp_parameters: toWire(remote.sctpParameters ?? {}),
        media_epoch: 0,
      };
    }
    if (command.type === "produce") return { producer: `own${this.count}` };
    if (command.type === "consume") {
      const kind = command.producer.startsWith("a") ? "audio" : "video";
      const remote = fake.generateConsumerRemoteParameters({
        codecMimeType: kind === "audio" ? "audio/opus" : "video/VP8",
      });
      return {
        consumer: `k${this.count}`,
        producer: command.producer,
        kind,
        rtp_parameters: toWire(remote.rtpParameters),
        producer_paused: false,
      };
    }
    return {};
  }
}

const makeDevice = async (): Promise<Device> =>
  new Device({
    handlerFactory: FakeHandler.createFactory({
      generateNativeRtpCapabilities: fake.generateNativeRtpCapabilities,
      generateLocalDtlsParameters: fake.generateLocalDtlsParameters,
    }),
  });

const sessions: MediaSession[] = [];

function open(server: Server, before: (session: MediaSession) => void = () => undefined): MediaSession {
  const session = new MediaSession(server.send, { audio: true, video: true, ecg: false }, makeDevice);
  sessions.push(session);
  before(session);
  session.update(consult(0, [producer("v1", "room", "video"), producer("a1", "room", "audio")]), 1);
  session.online("me", toWire(fake.generateRouterRtpCapabilities()));
  return session;
}

const received = (session: MediaSession): string[] =>
  session.store
    .getState()
    .remote.filter(({ track }) => track?.readyState === "live")
    .map(({ producer: id }) => id ?? "awaited");

/** Waits for what takes a moment, and on a busy machine many. */
const soon = (check: () => void): Promise<void> => vi.waitFor(check, { timeout: 30_000 });

afterEach(() => {
  for (const session of sessions.splice(0)) session.close();
});

describe("a page's media", () => {
  it("receives every source of the others and resumes each", async () => {
    const server = new Server();
    const session = open(server);

    await soon(() => expect(received(session)).toEqual(["v1", "a1"]));
    expect(server.of("resume_consumer")).toHaveLength(2);
    expect(server.of("create_transport").map(({ direction }) => direction)).toEqual(["recv"]);
  });

  it("builds everything anew after a reset, and what was muted stays muted", async () => {
    const server = new Server();
    const session = open(server);
    await session.local.adopt("microphone", new FakeMediaStreamTrack({ kind: "audio" }));
    session.update(consult(0, [producer("v1", "room", "video")]), 1);
    await soon(() => expect(server.of("produce")).toHaveLength(1));
    await session.local.set("microphone", false);

    session.update(consult(1, []), 2);
    expect(session.store.getState().remote.map(({ producer: id }) => id)).toEqual([null]);
    session.update(consult(1, [producer("v9", "room", "video")]), 2);

    await soon(() => expect(received(session)).toEqual(["v9"]));
    await soon(() => expect(server.of("produce")).toHaveLength(2));
    await soon(() => expect(server.of("pause_producer")).toHaveLength(2));
    expect(session.store.getState().local.microphone.on).toBe(false);
  });

  it("keeps trying while the media worker is away", async () => {
    const server = new Server();
    server.refuse = ({ type }) => type === "create_transport";
    const session = open(server);
    await soon(() => expect(server.of("create_transport").length).toBeGreaterThan(1));

    server.refuse = () => false;

    await soon(() => expect(received(session)).toEqual(["v1", "a1"]));
  });

  it("does not let one source that cannot be received hold up the others", async () => {
    const server = new Server();
    server.refuse = (command) => command.type === "consume" && command.producer === "v1";
    const session = open(server);

    await soon(() => expect(received(session)).toEqual(["a1"]));
  });

  it("switching the camera off and on again reuses its Producer (ORTC.md trap 9)", async () => {
    const server = new Server();
    const session = open(server);
    const track = new FakeMediaStreamTrack({ kind: "video" });
    await session.local.adopt("camera", track);
    session.update(consult(0, []), 1);
    await soon(() => expect(server.of("produce")).toHaveLength(1));

    await session.local.set("camera", false);
    expect(track.readyState).toBe("ended");
    await session.local.adopt("camera", new FakeMediaStreamTrack({ kind: "video" }));

    expect(server.of("produce")).toHaveLength(1);
    expect(server.asked.filter(({ type }) => type.endsWith("_producer")).map(({ type }) => type)).toEqual([
      "pause_producer",
      "resume_producer",
    ]);
  });

  it("says how large a picture is shown before it is resumed, and again to everybody after the socket was away", async () => {
    const server = new Server();
    const session = open(server, (opened) => {
      opened.views.show("room/camera/", { width: 1280, height: 720, rank: "main" });
    });
    await soon(() => expect(received(session)).toEqual(["v1", "a1"]));

    const [video] = server.of("view_consumer");
    expect(video).toMatchObject({ width: 1280, height: 720, rank: "main" });
    const order = server.asked.map((command) => ("consumer" in command ? `${command.type}/${command.consumer}` : ""));
    expect(order.indexOf(`view_consumer/${video?.consumer}`)).toBeLessThan(
      order.indexOf(`resume_consumer/${video?.consumer}`),
    );
    session.offline();
    session.online("me", toWire(fake.generateRouterRtpCapabilities()));
    await soon(() => expect(server.of("view_consumer")).toHaveLength(2));
  });

  it("builds both paths anew without UDP when it goes on losing a quarter, and stays there", async () => {
    const server = new Server();
    const session = open(server);
    await soon(() => expect(received(session)).toEqual(["v1", "a1"]));
    const lose = (transport: string, times: number): void => {
      for (let i = 0; i < times; i += 1) {
        const news = { estimate_bps: 1, round_trip_ms: 40, lost: 0.3, protocol: "udp" as const };
        session.heard({ type: "line_quality", transport, ...news });
      }
    };

    lose("somebody else's", 40);
    lose("t1", 9);
    expect(session.wayOfMedia.route).toBe("any");
    lose("t1", 1);
    expect(session.wayOfMedia.route).toBe("tcp");
    await soon(() => expect(server.of("create_transport")).toHaveLength(2));
    await soon(() => expect(received(session)).toEqual(["v1", "a1"]));
    lose("t1", 40);
    expect(session.wayOfMedia.route).toBe("tcp");
  });

  it("keeps what the relay says of a picture beside it, and forgets it with the Consumer", async () => {
    const server = new Server();
    const session = open(server);
    await soon(() => expect(received(session)).toEqual(["v1", "a1"]));
    const consumer = server.of("resume_consumer")[0]?.consumer ?? "";
    const news = { temporal: 2, spatial_layers: 3, limited_by: "line" as const };
    session.heard({ type: "consumer_layers", consumer, spatial: 0, ...news });
    const seen = () => session.store.getState().remote.find(({ kind }) => kind === "video")?.layers?.spatial;
    expect(seen()).toBe(0);
    session.update(consult(1, [producer("v2", "room", "video")]), 2);
    expect(seen()).toBeUndefined();
  });
});
