import { render, screen } from "@testing-library/react";
import { expect, it, vi } from "vitest";
import { createStore } from "zustand/vanilla";
import type { ConsultClient } from "../desk/consultClient";
import type { MediaSession, RemoteMedia } from "../media/session";
import type { Consult, Participant } from "../protocol";
import VideoView from "./VideoView";

vi.mock("../media/SoundOutlet", () => ({
  SoundOutlet: () => null,
  useSound: () => ({ blocked: false, resume: () => undefined }),
}));

it("[W9] marks a screen shared by a simulated room as simulated", () => {
  const room = { id: "r", role: "room", name: "Room", hospital: "", connection: "connected", simulated: true };
  const consult = { participants: { r: room as Participant }, producers: {} } as unknown as Consult;
  const shared = { key: "r/screen/", participant: "r", kind: "video", source: "screen", paused: false, track: null };
  const media = { store: createStore(() => ({ remote: [shared as RemoteMedia] })) } as unknown as MediaSession;
  const client = { store: createStore(() => ({ activeSpeaker: null })) } as unknown as ConsultClient;
  render(<VideoView client={client} media={media} consult={consult} me="me" />);
  expect(screen.getByTestId("screen-r").querySelector("strong")?.textContent).toBe("desk.tile.simulated");
});
