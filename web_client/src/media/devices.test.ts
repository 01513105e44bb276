import { describe, expect, it } from "vitest";
import { problemOf } from "./devices";

describe("what is wrong with a camera or microphone", () => {
  it.each([
    ["NotAllowedError", "denied"],
    ["SecurityError", "denied"],
    ["NotFoundError", "missing"],
    ["OverconstrainedError", "missing"],
    ["NotReadableError", "busy"],
    ["AbortError", "busy"],
    ["TypeError", "failed"],
  ] as const)("%s means %s", (name, problem) => {
    expect(problemOf(new DOMException("", name))).toBe(problem);
  });

  it("survives anything thrown", () => expect(problemOf("no")).toBe("failed"));
});
