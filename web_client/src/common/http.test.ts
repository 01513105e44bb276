/** Every way a request can fail becomes one ApiError; aborts of the caller stay aborts. */
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { ApiError, createHttp } from "./http";

const answer = vi.fn<(path: string, init: RequestInit) => Promise<Response>>();

beforeEach(() => {
  vi.stubGlobal("fetch", answer);
});

afterEach(() => {
  vi.unstubAllGlobals();
  answer.mockReset();
});

const failure = async (promise: Promise<unknown>): Promise<unknown> => promise.catch((error: unknown) => error);

describe("http", () => {
  it("names the wall's slot and sends JSON", async () => {
    answer.mockResolvedValue(Response.json({ ok: 1 }));

    await createHttp({ wallSlot: 3 }).post("/api/x", { a: 1 }, (body) => body);

    const [path, init] = answer.mock.calls[0] ?? [];
    const headers = new Headers(init?.headers);
    expect([path, init?.method, init?.body]).toEqual(["/api/x", "POST", '{"a":1}']);
    expect([headers.get("X-Wall-Slot"), headers.get("Content-Type")]).toEqual(["3", "application/json"]);
  });

  it("gives the server's code, both sentences and the wait", async () => {
    const body = { error: { code: "too_many_attempts", en: "Please wait.", zh: "请稍候。" } };
    answer.mockResolvedValue(Response.json(body, { status: 429, headers: { "Retry-After": "30" } }));

    const error = await failure(createHttp().get("/api/x", (value) => value));

    expect(error).toBeInstanceOf(ApiError);
    expect(error).toMatchObject({ status: 429, code: "too_many_attempts", zh: "请稍候。", retryAfterS: 30 });
  });

  it("has a sentence of its own for an answer that is no refusal of ours", async () => {
    answer.mockResolvedValue(new Response("<h1>502</h1>", { status: 502 }));

    const error = await failure(createHttp().get("/api/x", (value) => value));

    expect(error).toMatchObject({ status: 502, code: "http_502", retryAfterS: null });
    expect((error as ApiError).en).not.toBe("");
    expect((error as ApiError).zh).not.toBe("");
  });

  it("tells an unreadable answer from an unreachable server", async () => {
    answer.mockResolvedValueOnce(new Response("not json"));
    expect(await failure(createHttp().get("/api/x", (value) => value))).toMatchObject({ code: "bad_answer" });

    answer.mockRejectedValueOnce(new TypeError("failed to fetch"));
    expect(await failure(createHttp().get("/api/x", (value) => value))).toMatchObject({
      code: "unreachable",
      status: 0,
    });
  });

  it("passes the caller's own abort through", async () => {
    const controller = new AbortController();
    controller.abort();
    answer.mockRejectedValueOnce(new DOMException("aborted", "AbortError"));

    const error = await failure(createHttp().get("/api/x", (value) => value, { signal: controller.signal }));

    expect(error).not.toBeInstanceOf(ApiError);
  });

  it("reads nothing from an empty answer", async () => {
    answer.mockResolvedValue(new Response(null, { status: 204 }));
    expect(await createHttp().post("/api/x", {}, (body) => body)).toBeNull();
  });
});
