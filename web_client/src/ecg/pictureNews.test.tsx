/** (W43) The screens of a wall tell each other how old their pictures are. */
import { act, cleanup, render, screen } from "@testing-library/react";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { i18n } from "../i18n";
import type { MediaSession } from "../media/session";
import type { Consult } from "../protocol";
import type { EcgStatus } from "../waveform/settings";
import { HEARD_FOR_MS, useHeardPictureAge, useTellPictureAges } from "./pictureNews";
import { SkewNote } from "./SkewNote";

/** Delivers at once: the environment's own is a matter of processes. */
class Channel {
  static readonly all = new Set<Channel>();
  onmessage: ((event: { data: unknown }) => void) | null = null;
  constructor() {
    Channel.all.add(this);
  }
  postMessage(data: unknown): void {
    for (const one of Channel.all) if (one !== this) one.onmessage?.({ data: structuredClone(data) });
  }
  close(): void {
    Channel.all.delete(this);
  }
}

const consult = {
  id: "c",
  context_version: 3,
  data_producers: { d: { participant: "m", label: "ecg", waveform: { stream_id: 7 } } },
  participants: { m: { hospital: "h" }, room: { hospital: "h", role: "room" } },
} as unknown as Consult;
let pictureMs = 0;
const media = {
  store: {
    getState: () => ({
      remote: [{ kind: "video", source: "camera", participant: "room", paused: false, producer: "p" }],
    }),
  },
  ecg: { pictures: { age: () => ({ ms: pictureMs, isLeast: false, errorMs: null }) } },
} as unknown as MediaSession;
const LIVE = { state: "LIVE", ageMs: 200 } as EcgStatus;

function Picture({ of = consult }: { of?: Consult }) {
  useTellPictureAges(of, media);
  return null;
}
function Trace() {
  return <SkewNote className="" status={LIVE} age={useHeardPictureAge("c", 3, 7)} />;
}
const wait = (ms: number): void => act(() => void vi.advanceTimersByTime(ms));
const shown = () => screen.queryByTestId("ecg-skew")?.textContent ?? null;

beforeEach(async () => {
  await i18n.changeLanguage("en");
  vi.useFakeTimers();
  vi.stubGlobal("BroadcastChannel", Channel);
});
afterEach(() => {
  cleanup();
  Channel.all.clear();
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

it("(W43) warns on the trace's screen when the picture's is more than a second older, and ends with the news", () => {
  pictureMs = 900;
  render(<Trace />);
  const picture = render(<Picture />);
  wait(2_000);
  expect(shown()).toBeNull();
  pictureMs = 2_700;
  wait(2_000);
  expect(shown()).toContain("The picture is 2.5 s older than the ECG");
  // Read out once: only words that do not count are in the live region.
  expect(screen.getByRole("status").textContent).not.toMatch(/[0-9]/);
  picture.unmount();
  wait(HEARD_FOR_MS + 4_000);
  expect(shown()).toBeNull();
});

it("(W24) hears nothing of another context, consult or stream", () => {
  pictureMs = 5_000;
  render(<Trace />);
  render(<Picture of={{ ...consult, context_version: 2 }} />);
  render(<Picture of={{ ...consult, id: "other" }} />);
  wait(3_000);
  expect(shown()).toBeNull();
});
