/** [W9] A picture never stands under another name than its sender's. */
import { cleanup, render, screen } from "@testing-library/react";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { createStore } from "zustand/vanilla";
import type { ConsultClient } from "../desk/consultClient";
import type { Consult, Participant } from "../protocol";
import VideoView from "../wall/VideoView";
import type { MediaSession, RemoteMedia } from "./session";
import { VideoTile } from "./VideoTile";

vi.mock("./SoundOutlet", () => ({
  SoundOutlet: () => null,
  useSound: () => ({ blocked: false, resume: () => undefined }),
}));

/** The environment's streams take its own tracks only. */
class Stream extends MediaStream {
  constructor(readonly tracks: readonly MediaStreamTrack[]) {
    super();
  }
}

beforeEach(() => {
  vi.stubGlobal("MediaStream", Stream);
  vi.spyOn(HTMLMediaElement.prototype, "play").mockResolvedValue();
});
afterEach(() => {
  cleanup();
  vi.restoreAllMocks();
  vi.unstubAllGlobals();
});

const track = (readyState: MediaStreamTrackState) => ({ readyState }) as MediaStreamTrack;

const camera = (participant: string, shown: MediaStreamTrack | null, source: "camera" | "screen" = "camera") => ({
  key: `${participant}/${source}/`,
  participant,
  kind: "video" as const,
  source,
  label: "",
  producer: `of-${participant}`,
  paused: false,
  lostAtMs: null,
  track: shown,
  frames: { consumer: "k", frames: 90, grewAtMs: performance.now(), dueSinceMs: 0 },
  layers: null,
});

function tile(name: string, media: RemoteMedia | undefined) {
  return (
    <VideoTile
      testId="t"
      name={name}
      hospital=""
      connection="connected"
      media={media}
      micOff={false}
      nowMs={performance.now()}
    />
  );
}

const element = (testId = "t"): HTMLVideoElement => {
  const video = screen.getByTestId(testId).querySelector("video");
  if (video === null) throw new Error("a tile without a video element");
  return video;
};
const shownIn = (video: HTMLVideoElement) => (video.srcObject as unknown as Stream | null)?.tracks ?? [];

it.each([
  ["an ended track", track("ended")],
  ["no track yet", null],
])("A's picture is not under B's name while B has %s", (_, next) => {
  const ofA = track("live");
  const { rerender } = render(tile("A", camera("a", ofA)));
  expect(shownIn(element())).toEqual([ofA]);
  rerender(tile("B", camera("b", next)));
  expect(element().srcObject ?? null).toBeNull();
  expect(element().getAttribute("aria-label")).toBe("B");
  expect(screen.getByTestId("t").dataset.state).not.toBe("live");
});

it("A's picture goes with A's camera and does not come back with B's", () => {
  const { rerender } = render(tile("A", camera("a", track("live"))));
  rerender(tile("A", undefined));
  expect(element().srcObject ?? null).toBeNull();
});

it("the last picture of the same source stays while its new track is awaited, and is not live", () => {
  const first = track("live");
  const { rerender } = render(tile("A", camera("a", first)));
  rerender(tile("A", { ...camera("a", track("ended")), producer: null }));
  expect(shownIn(element())).toEqual([first]);
  expect(screen.getByTestId("t").dataset.state).toBe("stopped");
  const second = track("live");
  rerender(tile("A", camera("a", second)));
  expect(shownIn(element())).toEqual([second]);
  expect(screen.getByTestId("t").dataset.state).toBe("live");
});

it.each(["camera", "screen"] as const)("the wall's main %s gets an element of its own for each sender", (source) => {
  const person = (id: string, joinedMs: number) =>
    ({
      id,
      role: "doctor",
      name: id,
      hospital: "",
      connection: "connected",
      simulated: false,
      joined_at_ms: joinedMs,
    }) as unknown as Participant;
  const participants = { a: person("a", 1), b: person("b", 2) };
  const consult = { participants, producers: {} } as unknown as Consult;
  const store = createStore(() => ({ remote: [camera("a", track("live"), source)], line: {} }));
  const client = { store: createStore(() => ({ activeSpeaker: null })) } as unknown as ConsultClient;
  const wall = (
    <VideoView client={client} media={{ store, ecg: {} } as unknown as MediaSession} consult={consult} me="me" />
  );
  const prefix = source === "camera" ? "tile" : "screen";
  const { rerender } = render(wall);
  const before = element(`${prefix}-a`);
  store.setState({ remote: [camera("b", track("ended"), source)] });
  rerender(wall);
  const after = element(`${prefix}-b`);
  expect(after).not.toBe(before);
  expect(after.srcObject ?? null).toBeNull();
  expect(after.getAttribute("aria-label")).toContain(source === "camera" ? "b" : "desk.tile.screenOf");
});
