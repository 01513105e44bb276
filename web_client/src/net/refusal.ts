/** What was declined, never answered, put off, or could not even be asked. */
import type { ErrorCode, RefusalBody } from "../protocol";

/** The server said no; `en` and `zh` are sentences for the person. */
export class RefusalError extends Error {
  readonly code: string;
  readonly en: string;
  readonly zh: string;

  constructor(body: RefusalBody) {
    super(`${body.code}: ${body.en}`);
    this.name = "RefusalError";
    this.code = body.code;
    this.en = body.en;
    this.zh = body.zh;
  }

  is(code: ErrorCode): boolean {
    return this.code === code;
  }

  body(): RefusalBody {
    return { code: this.code, en: this.en, zh: this.zh };
  }
}

/** Very many are connecting: the server says when it is our turn to ask again. [SE16] */
export class BusyError extends Error {
  constructor(readonly retryAfterMs: number) {
    super(`busy: asked to come again in ${retryAfterMs} ms`);
    this.name = "BusyError";
  }
}

/** No socket came up at all, so nothing was sent: the token has not been used. */
export class NotOpenedError extends Error {
  constructor() {
    super("the socket did not open");
    this.name = "NotOpenedError";
  }
}

/** No answer: there is no connection, it was lost meanwhile, or the time ran out. Whether it took effect is unknown. */
export class UnansweredError extends Error {
  constructor(command: string, why: "not connected" | "connection lost" | "timeout") {
    super(`${command}: ${why}`);
    this.name = "UnansweredError";
  }
}

/** The body of a refusal when `value` looks like one. */
export function refusalFrom(value: unknown): RefusalBody | null {
  if (typeof value !== "object" || value === null) return null;
  const { code, en, zh } = value as Partial<Record<keyof RefusalBody, unknown>>;
  if (typeof code !== "string" || typeof en !== "string" || typeof zh !== "string") return null;
  return { code, en, zh };
}
