/** A channel that does not open stands in nobody's way. */
import type { Device, types } from "mediasoup-client";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import type { AnyCommand } from "../protocol";
import { Leg, type Send } from "./leg";

/** What is used of a channel and of a transport, by the library's own events. */
class FakeEvents {
  readonly id = "wire-1";
  readyState = "connecting";
  isClosed = false;
  private readonly heard = new Map<string, () => void>();

  on(name: string, listener: () => void): void {
    this.heard.set(name, listener);
  }

  once(name: string, listener: () => void): void {
    this.heard.set(name, listener);
  }

  open(): void {
    this.readyState = "open";
    this.heard.get("open")?.();
  }

  close(): void {
    this.isClosed = true;
  }
}

let channels: FakeEvents[];
let sent: AnyCommand[];

async function leg(direction: "send" | "recv"): Promise<Leg> {
  const make = async (): Promise<FakeEvents> => {
    const made = new FakeEvents();
    channels.push(made);
    return made;
  };
  const transport = Object.assign(new FakeEvents(), { consumeData: make, produceData: make, handler: {} });
  const device = {
    createSendTransport: () => transport,
    createRecvTransport: () => transport,
    recvRtpCapabilities: {},
  };
  const answers: Partial<Record<AnyCommand["type"], unknown>> = {
    create_transport: {
      transport: "t",
      ice_parameters: {},
      ice_candidates: [],
      ice_servers: [],
      dtls_parameters: {},
      sctp_parameters: {},
    },
    consume_data: {
      data_consumer: "wire-1",
      data_producer: "d",
      label: "ecg",
      protocol: "",
      sctp_stream_parameters: {},
    },
  };
  const send = (async (command: AnyCommand) => {
    sent.push(command);
    return answers[command.type] ?? {};
  }) as Send;
  const onLost = (): void => undefined;
  return Leg.open({ direction, device: device as unknown as Device, send, route: "any", onLost });
}

const named = (type: AnyCommand["type"]): AnyCommand[] => sent.filter((command) => command.type === type);

beforeEach(() => {
  vi.useFakeTimers();
  channels = [];
  sent = [];
});
afterEach(() => vi.useRealTimers());

it.each(["recv", "send"] as const)("gives a channel back at both ends that does not open (%s)", async (direction) => {
  const made = await leg(direction);
  const opening: Promise<types.DataConsumer | types.DataProducer> =
    direction === "recv" ? made.consumeData("d", () => undefined) : made.produceData("ctl");
  const failed = expect(opening).rejects.toThrow("did not open");
  await vi.advanceTimersByTimeAsync(15_000);
  await failed;
  expect(channels.map(({ isClosed }) => isClosed)).toEqual([true]);
  const wanted =
    direction === "recv"
      ? { type: "close_data_consumer", data_consumer: "wire-1" }
      : { type: "close_data_producer", data_producer: "wire-1" };
  expect(sent).toContainEqual(wanted);
  expect(named("resume_data_consumer")).toEqual([]);
});

it("lets messages flow only when the channel is open", async () => {
  const made = await leg("recv");
  const opening = made.consumeData("d", () => undefined);
  await vi.advanceTimersByTimeAsync(1_000);
  expect(named("resume_data_consumer")).toEqual([]);
  channels[0]?.open();
  await opening;
  expect(named("resume_data_consumer")).toHaveLength(1);
  expect(channels[0]?.isClosed).toBe(false);
});
