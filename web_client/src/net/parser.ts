/**
 * Socket.IO packets as msgpack maps, for socket.io-client's `parser` option.
 *
 * The published msgpack parser turns a `Uint8Array` into a map of numbers in
 * browsers and `undefined` into an extension type. Here binary is `Uint8Array`
 * only: an `ArrayBuffer` is wrapped (msgpack would silently write an empty map),
 * and what msgpack cannot carry faithfully throws at the sender instead of
 * arriving as something else.
 *
 * The manager needs a decoder with `on`, `off`, `add` and `destroy`.
 */
import { decode, Encoder as MsgpackEncoder } from "@msgpack/msgpack";

/** Socket.IO packet types 0-4; the binary types 5 and 6 do not exist in this encoding. */
export const PacketType = { CONNECT: 0, DISCONNECT: 1, EVENT: 2, ACK: 3, CONNECT_ERROR: 4 } as const;

export interface Packet {
  type: number;
  nsp: string;
  data?: unknown;
  id?: number;
}

/** Longest packet the server may send us: a snapshot of a consult with hundreds of participants stays far below. */
const MAX_PACKET_BYTES = 4 * 1024 * 1024;

export class Encoder {
  readonly #msgpack = new MsgpackEncoder({ ignoreUndefined: true });

  /** One binary chunk per packet. */
  encode(packet: Packet): Uint8Array[] {
    const { type, nsp, data, id } = packet;
    return [this.#msgpack.encode({ type, nsp, data: portable(data), id })];
  }
}

type Listener = (packet: Packet) => void;

export class Decoder {
  readonly #listeners = new Set<Listener>();

  /** The manager listens to `decoded`, the only event there is. */
  on(_event: "decoded", listener: Listener): this {
    this.#listeners.add(listener);
    return this;
  }

  off(_event: "decoded", listener: Listener): this {
    this.#listeners.delete(listener);
    return this;
  }

  /**
   * Take one message of the WebSocket.
   *
   * @throws Error when it is not a packet; the manager then closes with "parse error".
   */
  add(chunk: unknown): void {
    const packet = checked(decode(bytesOf(chunk)));
    for (const listener of this.#listeners) listener(packet);
  }

  destroy(): void {
    this.#listeners.clear();
  }
}

function bytesOf(chunk: unknown): Uint8Array {
  const bytes =
    chunk instanceof ArrayBuffer
      ? new Uint8Array(chunk)
      : ArrayBuffer.isView(chunk)
        ? new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength)
        : null;
  if (bytes === null) throw new Error("a packet must be binary");
  if (bytes.byteLength > MAX_PACKET_BYTES) throw new Error("packet too large");
  return bytes;
}

function checked(value: unknown): Packet {
  if (typeof value !== "object" || value === null) throw new Error("a packet must be a map");
  const { type, nsp, data, id } = value as Partial<Record<keyof Packet, unknown>>;
  if (typeof type !== "number" || !Number.isInteger(type) || type < 0 || type > 4) throw new Error("bad packet type");
  if (typeof nsp !== "string") throw new Error("bad namespace");
  const packet: Packet = { type, nsp };
  if (id !== undefined && id !== null) {
    if (typeof id !== "number") throw new Error("bad packet id");
    packet.id = id;
  }
  if (data !== undefined && data !== null) packet.data = data;
  if (type === PacketType.EVENT && !(Array.isArray(data) && typeof data[0] === "string")) throw new Error("bad event");
  if (type === PacketType.ACK && !Array.isArray(data)) throw new Error("bad acknowledgement");
  return packet;
}

/** The value with each `ArrayBuffer` wrapped; throws on what would arrive as something else. */
function portable(value: unknown): unknown {
  if (value instanceof Uint8Array) return value;
  if (value instanceof ArrayBuffer) return new Uint8Array(value);
  if (Array.isArray(value)) return value.map(portable);
  if (typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value)) {
    throw new TypeError("integers above 2^53 lose precision");
  }
  if (typeof value === "function" || typeof value === "symbol" || typeof value === "bigint") {
    throw new TypeError(`a ${typeof value} cannot be sent`);
  }
  if (typeof value !== "object" || value === null) return value;
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) {
    throw new TypeError(`a ${value.constructor.name} cannot be sent; only Uint8Array, arrays and plain objects`);
  }
  return Object.fromEntries(Object.entries(value).map(([key, entry]) => [key, portable(entry)]));
}
