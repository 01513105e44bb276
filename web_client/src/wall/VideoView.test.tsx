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

afterEach(cleanup);

it("[W9] marks a screen shared by a simulated room as simulated", () => {
  const room = { id: "r", role: "room", name: "Room", hospital: "", connection: "connected", simulated: true };
  const consult = { participants: { r: room as Participant }, producers: {} } as unknown as Consult;
  const shared = { key: "r/screen/", participant: "r", kind: "video", source: "screen", paused: false, track: null };
  const media = { store: createStore(() => ({ remote: [shared as RemoteMedia] })) } as unknown as MediaSession;
  const client = { store: createStore(() => ({ activeSpeaker: null })) } as unknown as ConsultClient;
  render(<VideoView client={client} media={media} consult={consult} me="me" />);
  expect(screen.getByTestId("screen-r").querySelector("strong")?.textContent).toBe("desk.tile.simulated");
});

it("a picture that the line is too thin for is said on the wall, with the seconds, and is not live", () => {
  const room = { id: "r", role: "room", name: "Room", hospital: "", connection: "connected", simulated: false };
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
    layers: { type: "consumer_layers", consumer: "k", spatial: -1, temporal: 0, spatial_layers: 3, limited_by: "line" },
  };
  const line = { estimateBps: 90_000, roundTripMs: 300, lost: 0.2, via: "tcp" };
  const media = { store: createStore(() => ({ remote: [camera], line })) } as unknown as MediaSession;
  const client = { store: createStore(() => ({ activeSpeaker: null })) } as unknown as ConsultClient;
  render(<VideoView client={client} media={media} consult={consult} me="me" />);

  const tile = screen.getByTestId("tile-r");
  expect(tile.dataset.state).toBe("paused");
  expect(screen.getByTestId("video-paused").textContent).toBe("desk.quality.paused 00:07desk.quality.pausedHint");
  expect(screen.queryByTestId("video-age")).toBeNull();
  expect(screen.getByTestId("quality").dataset).toMatchObject({ kind: "paused_line", via: "tcp" });
});
