import { decode, ExtData, encode } from "@msgpack/msgpack";
import { describe, expect, it } from "vitest";
import { Decoder, Encoder, type Packet, PacketType } from "./parser";

function sent(data: unknown): unknown {
  const [bytes] = new Encoder().encode({ type: PacketType.EVENT, nsp: "/", data: ["command", data], id: 1 });
  return (decode(bytes as Uint8Array) as { data: unknown[] }).data[1];
}

function received(bytes: unknown): Packet[] {
  const decoder = new Decoder();
  const packets: Packet[] = [];
  decoder.on("decoded", (packet) => packets.push(packet));
  decoder.add(bytes);
  return packets;
}

describe("Encoder", () => {
  it("keeps bytes bytes and wraps an ArrayBuffer, which msgpack would write as an empty map", () => {
    const bytes = new Uint8Array([1, 2, 3]);
    expect(sent({ bytes, deep: [{ buffer: bytes.buffer }] })).toEqual({ bytes, deep: [{ buffer: bytes }] });
  });

  it("leaves undefined out and keeps null and milliseconds exact", () => {
    expect(sent({ a: undefined, b: null, at: 1_763_760_000_123, max: 2 ** 53 - 1 })).toEqual({
      b: null,
      at: 1_763_760_000_123,
      max: 2 ** 53 - 1,
    });
  });

  it.each([
    ["Date", new Date()],
    ["Float32Array", new Float32Array(1)],
    ["Map", new Map()],
    ["bigint", 1n],
    ["function", () => 1],
    ["2^53", 2 ** 53],
  ])("throws on a %s instead of sending something else", (_, value) => {
    expect(() => sent({ value })).toThrow(TypeError);
  });
});

describe("Decoder", () => {
  it("takes an ArrayBuffer or a view on part of one", () => {
    const packet = { type: 2, nsp: "/", data: ["event", { b: new Uint8Array([9]) }] };
    const bytes = encode(packet);
    const padded = new Uint8Array([0, ...bytes, 0]).subarray(1, -1);
    expect(received(bytes.slice().buffer)).toEqual([packet]);
    expect(received(padded)).toEqual([packet]);
  });

  it.each([
    ["text", "42[]"],
    ["garbage", new Uint8Array([0xc1])],
    ["a list", encode([1])],
    ["no namespace", encode({ type: 2, data: ["event"] })],
    ["a bad type", encode({ type: 7, nsp: "/" })],
    ["an event without a name", encode({ type: 2, nsp: "/", data: [1] })],
    ["an event with an extension", encode({ type: 2, nsp: "/", data: new ExtData(5, new Uint8Array(1)) })],
    ["a bad id", encode({ type: 3, nsp: "/", id: "x", data: [] })],
    ["too much", new Uint8Array(5 * 1024 * 1024)],
  ])("throws on %s", (_, bytes) => {
    expect(() => received(bytes)).toThrow();
  });

  it("is silent after destroy", () => {
    const decoder = new Decoder();
    const packets: Packet[] = [];
    decoder.on("decoded", (packet) => packets.push(packet));
    decoder.destroy();
    decoder.add(encode({ type: 1, nsp: "/" }));
    expect(packets).toEqual([]);
  });
});
