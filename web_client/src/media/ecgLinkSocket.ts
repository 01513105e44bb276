/**
 * The waveforms' own WebSocket: the same bytes as on the data channels, one byte of address before them.
 *
 * It is not the consult's Socket.IO connection: a chat or a page turn must never queue before a heart beat. The first
 * message says who we are; a fresh token is asked for before each attempt. It goes on trying until it is closed: whoever
 * opened it knows when it is no longer wanted (`ecgLinkPath.ts`).
 */
import { encode } from "@msgpack/msgpack";
import { turnMs } from "../net/machine";
import { BusyError } from "../net/refusal";

export interface SocketEvents {
  onOpen(): void;
  onClose(): void;
  /** A message of the `ctl` channel. */
  onControl(message: Uint8Array): void;
  /** A message of an `ecg` or `vitals` channel; the buffer is the callee's. */
  onMessage(message: ArrayBuffer): void;
}

/** The part of a browser's WebSocket that is used. */
export type SocketLike = Pick<WebSocket, "binaryType" | "readyState" | "bufferedAmount" | "send" | "close"> & {
  onopen: (() => void) | null;
  onclose: (() => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
};

export interface SocketOptions {
  readonly getToken: () => Promise<string>;
  readonly connect?: () => SocketLike;
}

const ADDRESS = { control: 0, data: 1 } as const;
const RETRY_MS = [500, 1_000, 2_000, 5_000] as const;
/** A connection that is neither open nor refused by then is tried anew. */
const OPEN_WITHIN_MS = 10_000;
/** Requests that do not get away are worth nothing: the next look asks again. */
const MAX_BUFFERED_BYTES = 16_384;

export class WaveformSocket {
  private socket: SocketLike | null = null;
  private isReady = false;
  private isClosed = false;
  private attempts = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly options: SocketOptions,
    private readonly events: SocketEvents,
  ) {
    void this.attempt();
  }

  get open(): boolean {
    return this.isReady;
  }

  /** Send a message of `ctl`; silently nothing while not open. */
  sendControl(message: Uint8Array): void {
    if (!this.isReady || this.socket === null || this.socket.bufferedAmount > MAX_BUFFERED_BYTES) return;
    this.socket.send(addressed(message));
  }

  close(): void {
    this.isClosed = true;
    this.drop();
  }

  private async attempt(): Promise<void> {
    let token: string;
    try {
      token = await this.options.getToken();
    } catch (error) {
      this.later(error instanceof BusyError ? turnMs(error.retryAfterMs, Math.random()) : null);
      return;
    }
    if (this.isClosed) return;
    const socket = (this.options.connect ?? connectHere)();
    this.socket = socket;
    socket.binaryType = "arraybuffer";
    this.timer = setTimeout(() => this.fell(socket), OPEN_WITHIN_MS);
    socket.onopen = () => {
      if (this.socket !== socket) return;
      clearTimeout(this.timer);
      socket.send(addressed(encode({ t: "hello", token })));
      this.attempts = 0;
      this.isReady = true;
      this.events.onOpen();
    };
    socket.onclose = () => this.fell(socket);
    socket.onmessage = ({ data }) => {
      if (this.socket === socket && data instanceof ArrayBuffer) this.take(data);
    };
  }

  private take(data: ArrayBuffer): void {
    const address = new Uint8Array(data)[0];
    if (address === ADDRESS.control) this.events.onControl(new Uint8Array(data, 1));
    else if (address === ADDRESS.data) this.events.onMessage(data.slice(1));
  }

  private fell(socket: SocketLike): void {
    if (this.socket !== socket) return;
    this.drop();
    this.later();
  }

  private drop(): void {
    clearTimeout(this.timer);
    const { socket } = this;
    this.socket = null;
    if (socket !== null) {
      socket.onopen = socket.onclose = null;
      socket.onmessage = null;
      socket.close();
    }
    if (!this.isReady) return;
    this.isReady = false;
    this.events.onClose();
  }

  /** Try again, at the time the server said if it said one. [SE16] */
  private later(turnInMs: number | null = null): void {
    if (this.isClosed) return;
    const delayMs = turnInMs ?? RETRY_MS[Math.min(this.attempts, RETRY_MS.length - 1)] ?? 5_000;
    this.attempts += 1;
    this.timer = setTimeout(() => void this.attempt(), delayMs);
  }
}

function addressed(message: Uint8Array): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(message.length + 1);
  bytes[0] = ADDRESS.control;
  bytes.set(message, 1);
  return bytes;
}

function connectHere(): SocketLike {
  const url = new URL("/ws/waveforms", window.location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return new WebSocket(url) as unknown as SocketLike;
}
