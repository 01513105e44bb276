/**
 * Everything that is heard: one invisible audio element per sound of the others.
 *
 * Browsers may refuse to play before a click (a wall has none, a restored tab neither). Then the owner shows "Turn
 * sound on" and calls `resume` from that click. Sound leaves through the loudspeaker chosen before joining.
 */
import { useCallback, useEffect, useRef, useState } from "react";
import { useStore } from "zustand";
import { rememberedDevice } from "./devices";
import type { MediaSession } from "./session";

export interface Sound {
  /** The browser held some sound back. */
  readonly blocked: boolean;
  /** Play everything; to be called from a click. */
  readonly resume: () => void;
  /** For the outlets: register a voice, and tell when it was held back. */
  readonly voices: Set<HTMLAudioElement>;
  readonly onBlocked: () => void;
}

export function useSound(): Sound {
  const [blocked, setBlocked] = useState(false);
  const [voices] = useState(() => new Set<HTMLAudioElement>());
  const onBlocked = useCallback(() => setBlocked(true), []);
  const resume = useCallback(() => {
    setBlocked(false);
    for (const voice of voices) play(voice, onBlocked);
  }, [voices, onBlocked]);
  return { blocked, resume, voices, onBlocked };
}

export function SoundOutlet({ media: session, sound }: { media: MediaSession; sound: Sound }) {
  const remote = useStore(session.store, (state) => state.remote);
  const heard = remote.filter(({ kind, track }) => kind === "audio" && track !== null);
  return (
    <div hidden>
      {heard.map((media) => (
        <Voice key={media.key} track={media.track} sound={sound} />
      ))}
    </div>
  );
}

function play(element: HTMLAudioElement, onBlocked: () => void): void {
  element.play().catch((error: unknown) => {
    // Any other reason is a track that was replaced meanwhile, and its successor is played by itself.
    if (error instanceof DOMException && error.name === "NotAllowedError") onBlocked();
  });
}

function Voice({ track, sound }: { track: MediaStreamTrack | null; sound: Sound }) {
  const audio = useRef<HTMLAudioElement>(null);
  const { onBlocked, voices } = sound;
  useEffect(() => {
    const element = audio.current;
    if (element === null || track === null || track.readyState === "ended") return;
    element.srcObject = new MediaStream([track]);
    voices.add(element);
    play(element, onBlocked);
    return () => {
      voices.delete(element);
    };
  }, [track, onBlocked, voices]);
  useEffect(() => {
    const speaker = rememberedDevice("speaker");
    // A loudspeaker that is gone or not permitted leaves the default one, which is what people expect.
    if (speaker !== undefined && audio.current !== null) audio.current.setSinkId?.(speaker).catch(() => undefined);
  }, []);
  // biome-ignore lint/a11y/useMediaCaption: live speech has no captions yet
  return <audio ref={audio} />;
}
