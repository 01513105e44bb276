import { expect, it } from "vitest";
import type { RemoteMedia } from "../media/session";
import { type Consult, NO_TRACE, type Participant } from "../protocol";
import { seatsOf, sharedScreens } from "./people";

const person = (id: string, role: Participant["role"], joined_at_ms: number): Participant => ({
  id,
  role,
  name: id,
  hospital: "",
  screen: null,
  screen_number: null,
  connection: "connected",
  joined_at_ms,
  context_seen: 0,
  simulated: false,
  hub: false,
});
const consult: Consult = {
  id: "c",
  revision: 0,
  title: "",
  status: "open",
  limit: 50,
  participants: {
    me: person("me", "doctor", 1),
    bo: person("bo", "guest", 3),
    wall: person("wall", "screen", 0),
    monitor: person("monitor", "device", 0),
    partner: person("partner", "room", 9),
  },
  context: null,
  context_version: 0,
  lead: null,
  view: { page: "summary", item: "" },
  media_epoch: 0,
  producers: { v1: { id: "v1", participant: "bo", kind: "audio", source: "microphone", label: "", paused: false } },
  data_producers: {},
  ...NO_TRACE,
};
const media = (participant: string, source: RemoteMedia["source"], paused: boolean): RemoteMedia => ({
  key: `${participant}/${source}/`,
  participant,
  kind: source === "microphone" ? "audio" : "video",
  source,
  label: "",
  producer: "x",
  paused,
  lostAtMs: null,
  track: null,
  frames: undefined,
  layers: null,
});

it("seats the partner's room first, then people; screens and devices have no seat", () => {
  const seats = seatsOf(consult, "me", [media("bo", "microphone", false), media("partner", "microphone", true)], "v1");

  expect(seats.map(({ participant, micOff, isSpeaking }) => [participant.id, micOff, isSpeaking])).toEqual([
    ["partner", true, false],
    ["bo", false, true],
  ]);
});

it("takes a paused screen share for one that ended", () => {
  expect(sharedScreens(consult, [media("bo", "screen", true)])).toEqual([]);
  expect(sharedScreens(consult, [media("bo", "screen", false)])).toHaveLength(1);
});
