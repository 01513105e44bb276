import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Ack, AnyCommand, AnyEvent, Consult, GoodbyeReason } from "../protocol";
import { type ConnectionStatus, ConsultSocket } from "./consultSocket";
import { BusyError, NotOpenedError, RefusalError, UnansweredError } from "./refusal";
import type { OpenWire, Wire, WireListener } from "./wire";

/** A server of one consult whose every event turns the page. */
class FakeServer {
  revision = 5;
  reachable = true;
  opens = true;
  refuse: RefusalError | null = null;
  commands: AnyCommand[] = [];
  tokens: string[] = [];
  listeners: WireListener[] = [];
  open: OpenWire = async (auth, listener) => {
    if (!this.opens) throw new NotOpenedError();
    if (!this.reachable) throw new Error("unreachable");
    if (this.refuse !== null) throw this.refuse;
    this.tokens.push(auth.token);
    this.listeners.push(listener);
    const wire: Wire = { command: async (command) => this.answer(command), close: () => undefined };
    return wire;
  };

  answer(command: AnyCommand): Ack {
    this.commands.push(command);
    if (command.type === "join") {
      const snapshot = { revision: this.revision, media_epoch: 0 } as Consult;
      return { ok: true, result: { you: "me", snapshot, router_rtp_capabilities: {}, server_time_ms: 0 } };
    }
    if (command.type === "sync") {
      const events = range(command.since + 1, this.revision).map(event);
      return { ok: true, result: { events, snapshot: null } };
    }
    if (command.type === "turn_page") {
      return { ok: false, refusal: { code: "not_lead", en: "Only the one who leads.", zh: "只有主讲人。" } };
    }
    return { ok: true, result: {} };
  }

  get listener(): WireListener {
    const listener = this.listeners.at(-1);
    if (listener === undefined) throw new Error("nobody has connected");
    return listener;
  }

  beat(): void {
    this.listener.signal({
      type: "beat",
      revision: this.revision,
      context_version: 0,
      server_time_ms: 0,
      stops_at_ms: null,
    });
  }

  happen(): AnyEvent {
    this.revision += 1;
    return event(this.revision);
  }

  goodbye(reason: GoodbyeReason): void {
    this.listener.signal({ type: "goodbye", reason });
  }
}

const event = (revision: number): AnyEvent => ({
  type: "page_turned",
  revision,
  at_ms: 0,
  by: "a",
  view: { page: "labs", item: "" },
});

const range = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, i) => from + i);

function setup() {
  const server = new FakeServer();
  const revisions: number[] = [];
  const joins: boolean[] = [];
  const statuses: ConnectionStatus[] = [];
  const office = { busyMs: 0, asked: 0 };
  let tokens = 0;
  const socket = new ConsultSocket({
    getToken: async () => {
      office.asked += 1;
      if (office.busyMs > 0) throw new BusyError(office.busyMs);
      return `t${++tokens}`;
    },
    onJoined: (joined, resumed) => {
      revisions.push(joined.snapshot.revision);
      joins.push(resumed);
    },
    onEvent: ({ revision }) => revisions.push(revision),
    onStatus: (status) => statuses.push(status),
    open: server.open,
    now: () => Date.now(),
    random: () => 0.5,
  });
  return { server, socket, revisions, joins, statuses, office };
}

/** Let `ms` pass with a beat every 2 s while `server` is given. */
async function pass(ms: number, server?: FakeServer): Promise<void> {
  for (let left = ms; left > 0; left -= 2_000) {
    await vi.advanceTimersByTimeAsync(Math.min(left, 2_000));
    server?.beat();
  }
}

describe("ConsultSocket", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  async function connected() {
    const world = setup();
    world.socket.start();
    await pass(1);
    world.server.beat();
    expect(world.socket.status).toMatchObject({ phase: "connected", fresh: true });
    return world;
  }

  it("joins and passes events on in order", async () => {
    const { server, revisions } = await connected();
    server.listener.event(server.happen());
    server.listener.event(server.happen());
    expect(revisions).toEqual([5, 6, 7]);
  });

  it("[CO4] fetches what an event shows to be missing, each once and in order", async () => {
    const { server, revisions } = await connected();
    server.happen();
    server.listener.event(server.happen());
    server.listener.event(server.happen());
    await pass(1);
    expect(revisions).toEqual([5, 6, 7, 8]);
    expect(server.commands.filter(({ type }) => type === "sync")).toEqual([{ type: "sync", since: 5 }]);
  });

  it("[CO4] fetches what only a beat shows to be missing", async () => {
    const { server, revisions } = await connected();
    server.happen();
    server.beat();
    await pass(1);
    expect(revisions).toEqual([5, 6]);
  });

  it("[CO3] ignores events that the snapshot contains", async () => {
    const { server, revisions } = await connected();
    server.listener.event(event(5));
    expect(revisions).toEqual([5]);
  });

  it("[W14] is not fresh after a sleep that the page's own clock did not count", async () => {
    const server = new FakeServer();
    const socket = new ConsultSocket({
      getToken: async () => "t",
      open: server.open,
      now: () => performance.now(),
      random: () => 0.5,
    });
    socket.start();
    await pass(1);
    server.beat();
    server.reachable = false;
    vi.setSystemTime(Date.now() + 60_000);
    await pass(250);
    expect(socket.status).toMatchObject({ phase: "reconnecting", fresh: false });
  });

  it("[W19] is not fresh in a page that the browser puts away to show it again", async () => {
    const { socket, server } = await connected();
    server.beat();
    const away = (persisted: boolean): boolean =>
      window.dispatchEvent(Object.assign(new Event("pagehide"), { persisted }));

    away(false);
    expect(socket.status.fresh).toBe(true);
    away(true);
    expect(socket.status.fresh).toBe(false);
    await pass(3_000);
    server.beat();
    expect(socket.status).toMatchObject({ phase: "connected", fresh: true });
  });

  it("[SE10] is not fresh 5 s after the last beat, and reconnects", async () => {
    const { server, socket, statuses } = await connected();
    await pass(4_900);
    expect(socket.status.fresh).toBe(true);
    server.reachable = false;
    await pass(600);
    expect(socket.status).toMatchObject({ phase: "reconnecting", fresh: false });
    expect(statuses.at(-1)).toEqual(socket.status);
  });

  it("resumes with a new token when the socket comes back soon", async () => {
    const { server, socket, joins, revisions } = await connected();
    server.listener.closed();
    expect(socket.status.phase).toBe("reconnecting");
    server.happen();
    await pass(1_000);
    expect(socket.status.phase).toBe("connected");
    expect(joins).toEqual([false, true]);
    expect(revisions).toEqual([5, 6]);
    expect(server.tokens).toEqual(["t1", "t2"]);
  });

  it("rejoins from scratch after 15 s and stops after 60 s, until retried", async () => {
    const { server, socket, joins } = await connected();
    server.reachable = false;
    server.listener.closed();
    await pass(16_000);
    expect(socket.status).toMatchObject({ phase: "rejoining", fresh: false });
    await pass(45_000);
    expect(socket.status.phase).toBe("stopped");
    server.reachable = true;
    await pass(10_000);
    expect(socket.status.phase).toBe("stopped");
    socket.retry();
    await pass(1);
    expect(socket.status.phase).toBe("connected");
    expect(joins).toEqual([false, false]);
  });

  it("[SE16] comes again when it was told to, shows nothing as live meanwhile, and goes on by itself", async () => {
    const { server, socket, office } = await connected();
    office.busyMs = 40_000;
    server.listener.closed();
    await pass(6_000);
    expect(socket.status).toMatchObject({ phase: "reconnecting", fresh: false });
    expect(socket.status.waitUntilMs).toBeGreaterThan(Date.now() + 30_000);
    await pass(34_000);
    expect(office.asked).toBe(2);
    await pass(1_000);
    expect(office.asked).toBe(3);
    await pass(35_000);
    expect(socket.status.phase).toBe("rejoining");
    office.busyMs = 0;
    await pass(10_000);
    expect(socket.status).toMatchObject({ phase: "connected", waitUntilMs: null });
    expect(office.asked).toBe(4);
  });

  it("[SE16] uses a token again of which no socket came up, while it is good", async () => {
    const { server, socket, office } = await connected();
    server.opens = false;
    server.listener.closed();
    await pass(20_000);
    expect(office.asked).toBe(2);
    server.opens = true;
    await pass(4_000);
    expect(socket.status.phase).toBe("connected");
    expect(server.tokens).toEqual(["t1", "t2"]);
    server.opens = false;
    server.listener.closed();
    await pass(44_000);
    expect(office.asked).toBe(3);
    await pass(6_000);
    expect(office.asked).toBe(4);
  });

  it("does not fight the page that replaced it", async () => {
    const { server, socket } = await connected();
    server.goodbye("replaced");
    expect(socket.status.fresh).toBe(false);
    await pass(30_000);
    expect(socket.status).toMatchObject({ phase: "stopped", goodbye: "replaced", fresh: false });
    expect(server.tokens).toHaveLength(1);
  });

  it("comes back by itself after too_slow", async () => {
    const { server, socket } = await connected();
    server.goodbye("too_slow");
    await pass(1_000);
    expect(socket.status.phase).toBe("connected");
    expect(server.tokens).toHaveLength(2);
  });

  it("ignores what an abandoned socket still says", async () => {
    const { server, revisions } = await connected();
    const old = server.listener;
    old.closed();
    await pass(1_000);
    old.event(event(6));
    old.signal({ type: "goodbye", reason: "ended" });
    old.closed();
    await pass(1_000, server);
    expect(revisions).toEqual([5, 5]);
    expect(server.tokens).toHaveLength(2);
  });

  it("turns a refusal into an error with both sentences", async () => {
    const { socket } = await connected();
    const turn = socket.command({ type: "turn_page", context_version: 1, view: { page: "labs", item: "" } });
    await expect(turn).rejects.toMatchObject({ code: "not_lead", zh: "只有主讲人。" });
  });

  it("rejects commands at once while there is no connection", async () => {
    const { server, socket } = await connected();
    server.reachable = false;
    server.listener.closed();
    await expect(socket.command({ type: "take_lead" })).rejects.toBeInstanceOf(UnansweredError);
  });

  it("stops with the server's reason when it may not come in", async () => {
    const { server, socket } = setup();
    server.refuse = new RefusalError({ code: "consult_full", en: "Full.", zh: "满。" });
    socket.start();
    await pass(1_000);
    expect(socket.status).toMatchObject({ phase: "stopped", refusal: { code: "consult_full" } });
  });

  it("leaves for good", async () => {
    const { server, socket } = await connected();
    await socket.leave();
    await pass(20_000);
    expect(server.commands.at(-1)).toEqual({ type: "leave" });
    expect(socket.status.phase).toBe("idle");
    expect(vi.getTimerCount()).toBe(0);
  });
});
