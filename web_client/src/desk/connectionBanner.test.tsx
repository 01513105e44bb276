import { cleanup, render, screen } from "@testing-library/react";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { i18n } from "../i18n";
import { type ConnectionStatus, INITIAL_STATUS } from "../net/consultSocket";
import { BusyNote } from "./BusyNote";
import { ConnectionBanner } from "./ConnectionBanner";

beforeEach(() => void vi.spyOn(performance, "now").mockReturnValue(10_000));
afterEach(async () => {
  cleanup();
  vi.restoreAllMocks();
  await i18n.changeLanguage("en");
});

const busy = (phase: ConnectionStatus["phase"], waitUntilMs: number): ConnectionStatus => ({
  ...INITIAL_STATUS,
  phase,
  troubleSinceMs: 9_900,
  waitUntilMs,
});

it.each([
  ["zh-CN", "服务器繁忙，8 秒后自动重试，无需操作。"],
  ["en", "The server is busy. It tries again by itself in 8 s; you need not do anything."],
])("[SE16] says in %s when it is our turn, on the way in and on the way back", async (language, words) => {
  await i18n.changeLanguage(language);
  for (const phase of ["connecting", "reconnecting", "rejoining"] as const) {
    render(<ConnectionBanner status={busy(phase, 17_500)} path="good" stopsAtMs={null} />);
    expect(screen.getByTestId("connection-banner").textContent).toBe(words);
    cleanup();
  }
  render(<BusyNote status={busy("connecting", 17_500)} otherwise="wait" />);
  expect(screen.getByText(words)).toBeTruthy();
});

it("[SE16] says no more of it when the time has come, or we are in", () => {
  render(<BusyNote status={busy("connecting", 9_999)} otherwise="wait" />);
  expect(screen.getByText("wait")).toBeTruthy();
  cleanup();
  render(<ConnectionBanner status={busy("connected", 17_500)} path="good" stopsAtMs={null} />);
  expect(screen.queryByTestId("connection-banner")).toBeNull();
});
