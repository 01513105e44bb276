/** One socket, from connect to close: the only importer of socket.io-client. */
import { io, type Socket } from "socket.io-client";
import type { Ack, AnyCommand } from "../protocol";
import * as parser from "./parser";
import { NotOpenedError, RefusalError, refusalFrom, UnansweredError } from "./refusal";

export interface Wire {
  /** @throws UnansweredError when no acknowledgement came. */
  command(command: AnyCommand, timeoutMs: number): Promise<Ack>;
  close(): void;
}

export interface WireListener {
  event(data: unknown): void;
  signal(data: unknown): void;
  /** The socket is gone, not by our `close()`. Called at most once. */
  closed(): void;
}

export interface WireAuth {
  token: string;
  protocol: number;
}

/** @throws RefusalError when the server declines; NotOpenedError when it was told nothing; Error otherwise. */
export type OpenWire = (auth: WireAuth, listener: WireListener) => Promise<Wire>;

const CONNECT_TIMEOUT_MS = 5_000;

/** Opens sockets to `origin` (empty: where the page came from). It never reconnects by itself: `ConsultSocket` decides. */
export function socketIo(origin = ""): OpenWire {
  return (auth, listener) =>
    new Promise((resolve, reject) => {
      const socket = io(origin, {
        path: "/socket.io",
        transports: ["websocket"],
        parser,
        auth: { ...auth },
        reconnection: false,
        forceNew: true,
        timeout: CONNECT_TIMEOUT_MS,
      });
      // From then on the token may be on its way; a browser does not say why a WebSocket was refused.
      let isOpen = false;
      socket.io.once("open", () => {
        isOpen = true;
      });
      const giveUp = (error: Error): void => {
        clearTimeout(timer);
        socket.removeAllListeners();
        socket.disconnect();
        reject(isOpen ? error : new NotOpenedError());
      };
      // The engine's own timeout ends when the WebSocket is open; the namespace may still never be answered.
      const timer = setTimeout(() => giveUp(new Error("connect timed out")), CONNECT_TIMEOUT_MS);
      socket.once("connect_error", (error: Error & { data?: unknown }) => {
        const refusal = refusalFrom(error.data);
        giveUp(refusal === null ? error : new RefusalError(refusal));
      });
      socket.on("event", (data: unknown) => listener.event(data));
      socket.on("signal", (data: unknown) => listener.signal(data));
      socket.once("connect", () => {
        clearTimeout(timer);
        socket.once("disconnect", () => listener.closed());
        resolve(wireOn(socket));
      });
    });
}

function wireOn(socket: Socket): Wire {
  return {
    command: (command, timeoutMs) =>
      new Promise((resolve, reject) => {
        if (!socket.connected) {
          reject(new UnansweredError(command.type, "not connected"));
          return;
        }
        socket.timeout(timeoutMs).emit("command", command, (error: Error | null, ack: Ack) => {
          if (error === null) resolve(ack);
          else reject(new UnansweredError(command.type, socket.connected ? "timeout" : "connection lost"));
        });
      }),
    close: () => {
      socket.removeAllListeners();
      socket.disconnect();
    },
  };
}
