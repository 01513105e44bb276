/** Who has a tile, in which order, and what it shows. Pure. */

import type { RemoteMedia } from "../media/session";
import type { Consult, Participant } from "../protocol";

export interface Seat {
  readonly participant: Participant;
  readonly camera: RemoteMedia | undefined;
  readonly micOff: boolean;
  readonly isSpeaking: boolean;
}

export interface SharedScreen {
  readonly participant: Participant;
  readonly media: RemoteMedia;
}

const ORDER: Record<Participant["role"], number> = { room: 0, doctor: 1, guest: 2, nurse: 3, screen: 9, device: 9 };

/** Everyone else who can be seen or heard: the partner's room first, then people in the order they came. */
export function seatsOf(
  consult: Consult,
  me: string,
  remote: readonly RemoteMedia[],
  activeSpeaker: string | null,
): readonly Seat[] {
  const speaker = activeSpeaker === null ? undefined : consult.producers[activeSpeaker]?.participant;
  return Object.values(consult.participants)
    .filter(({ id, role }) => id !== me && role !== "screen" && role !== "device")
    .sort((a, b) => ORDER[a.role] - ORDER[b.role] || a.joined_at_ms - b.joined_at_ms || a.id.localeCompare(b.id))
    .map((participant) => {
      const own = remote.filter((media) => media.participant === participant.id);
      const voices = own.filter(({ source }) => source === "microphone");
      return {
        participant,
        camera: own.find(({ source }) => source === "camera"),
        micOff: !voices.some(({ paused }) => !paused),
        isSpeaking: speaker === participant.id,
      };
    });
}

/** Screens shared by others; a paused one is a share that ended (the Producer is kept, ORTC.md trap 9). */
export function sharedScreens(consult: Consult, remote: readonly RemoteMedia[]): readonly SharedScreen[] {
  return remote
    .filter(({ source, paused }) => source === "screen" && !paused)
    .flatMap((media) => {
      const participant = consult.participants[media.participant];
      return participant === undefined ? [] : [{ participant, media }];
    });
}

/** Those who may take the lead from us: people with a desk. */
export function possibleLeads(consult: Consult, me: string): readonly Participant[] {
  return Object.values(consult.participants).filter(
    ({ id, role }) => id !== me && (role === "doctor" || role === "nurse" || role === "guest"),
  );
}
