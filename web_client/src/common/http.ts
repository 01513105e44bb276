/**
 * The one way this client talks HTTP.
 *
 * JSON in and out, same origin only, a timeout on every request, and every
 * failure is an `ApiError` with a stable code and a sentence in both languages,
 * so that a page can always say what happened. Answers pass through a reader
 * the caller gives: nothing of the server's JSON is trusted by a cast.
 *
 * Socket traffic is in net/; clinical rules about versions are in record/.
 */
import { createContext, useContext } from "react";
import { num, obj, str } from "./read";

const TIMEOUT_MS = 10_000;

/** A request that did not give what was asked. */
export class ApiError extends Error {
  override readonly name = "ApiError";

  constructor(
    /** HTTP status; 0 when no answer came. */
    readonly status: number,
    /** Stable code from the server, or `unreachable`, `timeout`, `bad_answer`. */
    readonly code: string,
    readonly en: string,
    readonly zh: string,
    /** How long the server asks us to wait, null when it does not say. */
    readonly retryAfterS: number | null = null,
    /** The refusal as a whole; some say more than a sentence. */
    readonly details: unknown = null,
  ) {
    super(code);
  }
}

export interface RequestOptions {
  signal?: AbortSignal | undefined;
  timeoutMs?: number | undefined;
}

/** An answer with the headers the caller may need. */
export interface Answer<T> {
  value: T;
  headers: Headers;
}

export interface Http {
  get<T>(path: string, read: (body: unknown) => T, options?: RequestOptions): Promise<T>;
  /** Like `get`, with the headers. */
  getAnswer<T>(path: string, read: (body: unknown) => T, options?: RequestOptions): Promise<Answer<T>>;
  /** Bytes with their content type. */
  getBlob(path: string, options?: RequestOptions): Promise<Answer<Blob>>;
  post<T>(path: string, body: unknown, read: (body: unknown) => T, options?: RequestOptions): Promise<T>;
  /** Send a form with a file. */
  upload<T>(path: string, form: FormData, read: (body: unknown) => T, options?: RequestOptions): Promise<T>;
  delete(path: string, options?: RequestOptions): Promise<void>;
}

/** For answers whose body does not matter. */
export const ignoreBody = (): void => undefined;

/** Build the helper. A wall gives its slot, which then goes with every request. */
export function createHttp(settings: { wallSlot?: number } = {}): Http {
  const send = (method: string, path: string, body: unknown, options: RequestOptions = {}): Promise<Response> => {
    const headers = new Headers({ Accept: "application/json, */*" });
    if (settings.wallSlot !== undefined) headers.set("X-Wall-Slot", String(settings.wallSlot));
    const init: RequestInit = { method, headers, credentials: "same-origin", cache: "no-store" };
    if (body instanceof FormData) {
      // The browser names the boundary itself.
      init.body = body;
    } else if (method !== "GET") {
      headers.set("Content-Type", "application/json");
      init.body = JSON.stringify(body ?? {});
    }
    return fetchWithin(path, init, options);
  };
  const getAnswer: Http["getAnswer"] = async (path, read, options) => {
    const response = await send("GET", path, undefined, options);
    return { value: read(await jsonOf(response)), headers: response.headers };
  };
  return {
    getAnswer,
    get: async (path, read, options) => (await getAnswer(path, read, options)).value,
    getBlob: async (path, options) => {
      const response = await send("GET", path, undefined, options);
      return { value: await response.blob(), headers: response.headers };
    },
    post: async (path, body, read, options) => read(await jsonOf(await send("POST", path, body, options))),
    upload: async (path, form, read, options) => read(await jsonOf(await send("POST", path, form, options))),
    delete: async (path, options) => {
      await send("DELETE", path, undefined, options);
    },
  };
}

async function fetchWithin(path: string, init: RequestInit, options: RequestOptions): Promise<Response> {
  const deadline = AbortSignal.timeout(options.timeoutMs ?? TIMEOUT_MS);
  const signal = options.signal === undefined ? deadline : AbortSignal.any([options.signal, deadline]);
  let response: Response;
  try {
    response = await fetch(path, { ...init, signal });
  } catch (error) {
    // The caller's own abort is not a failure to explain: it passes through.
    if (options.signal?.aborted === true) throw error;
    if (deadline.aborted) {
      throw new ApiError(0, "timeout", "The server did not answer in time.", "服务器未在规定时间内响应。");
    }
    throw new ApiError(0, "unreachable", "The server cannot be reached.", "无法连接服务器。");
  }
  if (!response.ok) throw await refusalOf(response);
  return response;
}

async function jsonOf(response: Response): Promise<unknown> {
  if (response.status === 204) return null;
  try {
    return (await response.json()) as unknown;
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError(response.status, "bad_answer", "The server's answer cannot be read.", "无法读取服务器的响应。");
  }
}

async function refusalOf(response: Response): Promise<ApiError> {
  const body: unknown = await response.json().catch(() => null);
  const error = obj(obj(body).error);
  const retryAfter = num(Number(response.headers.get("Retry-After") ?? Number.NaN));
  return new ApiError(
    response.status,
    str(error.code) || `http_${response.status}`,
    str(error.en) || `The server refused the request (${response.status}).`,
    str(error.zh) || `服务器拒绝了请求（${response.status}）。`,
    retryAfter,
    error,
  );
}

export const HttpContext = createContext<Http | null>(null);

/** The page's HTTP helper. */
export function useHttp(): Http {
  const http = useContext(HttpContext);
  if (http === null) throw new Error("useHttp outside AppProviders");
  return http;
}
