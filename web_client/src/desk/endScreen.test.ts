import { expect, it } from "vitest";
import type { ConnectionStatus } from "../net/consultSocket";
import { endingOf } from "./EndScreen";

const status = (change: Partial<ConnectionStatus>): ConnectionStatus => ({
  phase: "stopped",
  fresh: false,
  troubleSinceMs: null,
  goodbye: null,
  refusal: null,
  waitUntilMs: null,
  ...change,
});
const refusal = (code: string) => ({ code, en: "", zh: "" });

it.each([
  [{}, "lost"],
  [{ goodbye: "replaced" }, "replaced"],
  [{ goodbye: "ended" }, "ended"],
  [{ goodbye: "removed" }, "removed"],
  [{ goodbye: "malformed" }, "protocol"],
  [{ goodbye: "server_stopping" }, "lost"],
  [{ refusal: refusal("consult_ended") }, "ended"],
  [{ refusal: refusal("not_found") }, "refused"],
  [{ refusal: refusal("token_invalid") }, "lost"],
  [{ phase: "reconnecting", goodbye: "server_stopping" }, null],
  [{ phase: "connected" }, null],
] as [Partial<ConnectionStatus>, string | null][])("%j ends as %s", (change, ending) => {
  expect(endingOf(status(change), false)).toBe(ending);
});

it("says that one has left, whatever else happened", () => expect(endingOf(status({}), true)).toBe("left"));
