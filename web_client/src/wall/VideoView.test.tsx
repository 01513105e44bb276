import { cleanup, render, screen } from "@testing-library/react";
import { afterEach, expect, it, vi } from "vitest";
import { createStore } from "zustand/vanilla";
import type { ConsultClient } from "../desk/consultClient";
import type { MediaSession, RemoteMedia } from "../media/session";
import type { Consult, Participant } from "../protocol";
import VideoView from "./VideoView";

vi.mock("../media/SoundOutlet", () => ({
  SoundOutlet: () => null,
  useSound: () => ({ blocked: false, resume: () => undefined }),
}));

afterEach(() => {
  cleanup();
  vi.useRealTimers();
});

it("[W9] marks a screen shared by a simulated room as simulated", () => {
  const room = { id: "r", role: "room", name: "Room", hospital: "", connection: "connected", simulated: true };
  const consult = { participants: { r: room as Participant }, producers: {} } as unknown as Consult;
  const shared = { key: "r/screen/", participant: "r", kind: "video", source: "screen", paused: false, track: null };
  const media = { store: createStore(() => ({ remote: [shared as RemoteMedia] })), ecg: {} } as unknown as MediaSession;
  const client = { store: createStore(() => ({ activeSpeaker: null })) } as unknown as ConsultClient;
  render(<VideoView client={client} media={media} consult={consult} me="me" />);
  expect(screen.getByTestId("screen-r").querySelector("strong")?.textContent).toBe("desk.tile.simulated");
});

const room = { id: "r", role: "room", name: "Room", hospital: "", connection: "connected", simulated: false };
const line = { estimateBps: 90_000, roundTripMs: 300, lost: 0.2, via: "tcp" };

/** A wall whose room's last new picture came 7.5 s ago. */
function showStanding(layers: object): void {
  vi.useFakeTimers();
  const consult = { participants: { r: room as Participant }, producers: {} } as unknown as Consult;
  const stoodSinceMs = performance.now() - 7_500;
  const camera = {
    key: "r/camera/",
    participant: "r",
    kind: "video",
    source: "camera",
    producer: "p",
    paused: false,
    track: { readyState: "ended" } as MediaStreamTrack,
    frames: { consumer: "k", frames: 90, grewAtMs: stoodSinceMs, dueSinceMs: 0 },
    layers: { type: "consumer_layers", consumer: "k", temporal: 0, spatial_layers: 3, ...layers },
  };
  const media = { store: createStore(() => ({ remote: [camera], line })), ecg: {} } as unknown as MediaSession;
  const client = { store: createStore(() => ({ activeSpeaker: null })) } as unknown as ConsultClient;
  render(<VideoView client={client} media={media} consult={consult} me="me" />);
}

it("a picture that the line is too thin for is said on the wall, with the seconds, and is not live", () => {
  showStanding({ spatial: -1, limited_by: "line" });
  expect(screen.getByTestId("tile-r").dataset.state).toBe("paused");
  expect(screen.getByTestId("video-paused").textContent).toBe("desk.quality.paused 00:07desk.quality.pausedHint");
  expect(screen.queryByTestId("video-age")).toBeNull();
  expect(screen.getByTestId("quality").dataset).toMatchObject({ kind: "paused_line", via: "tcp" });
});

it("a picture that has stopped claims no quality, whatever the relay said last", () => {
  showStanding({ spatial: 2, limited_by: "nothing" });
  expect(screen.getByTestId("tile-r").dataset.state).toBe("stopped");
  expect(screen.getByTestId("video-age").textContent).toBe("desk.tile.stopped 00:07");
  expect(screen.queryByTestId("quality")).toBeNull();
});
