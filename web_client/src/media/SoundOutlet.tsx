/**
 * Everything that is heard: one invisible audio element per sound of the others.
 *
 * Browsers may refuse to play before a click (a wall has none, a restored tab neither). Then the owner shows "Turn
 * sound on" and calls `resume` from that click. Sound leaves through the loudspeaker chosen before joining.
 */
import { useCallback, useEffect, useRef, useState } from "react";
import { rememberedDevice } from "./devices";
import type { RemoteMedia } from "./session";

export interface Sound {
  /** The browser held some sound back. */
  readonly blocked: boolean;
  readonly resume: () => void;
  readonly onBlocked: () => void;
  readonly attempt: number;
}

export function useSound(): Sound {
  const [blocked, setBlocked] = useState(false);
  const [attempt, setAttempt] = useState(0);
  const resume = useCallback(() => {
    setBlocked(false);
    setAttempt((count) => count + 1);
  }, []);
  const onBlocked = useCallback(() => setBlocked(true), []);
  return { blocked, resume, onBlocked, attempt };
}

export function SoundOutlet({ remote, sound }: { remote: readonly RemoteMedia[]; sound: Sound }) {
  const heard = remote.filter(({ kind, track }) => kind === "audio" && track !== null);
  return (
    <div hidden>
      {heard.map((media) => (
        <Voice key={media.key} track={media.track} sound={sound} />
      ))}
    </div>
  );
}

function Voice({ track, sound }: { track: MediaStreamTrack | null; sound: Sound }) {
  const audio = useRef<HTMLAudioElement>(null);
  const { onBlocked, attempt } = sound;
  useEffect(() => {
    const element = audio.current;
    if (element === null || track === null || track.readyState === "ended") return;
    const stream = element.srcObject instanceof MediaStream ? element.srcObject : null;
    if (stream?.getTracks()[0] !== track) element.srcObject = new MediaStream([track]);
    let isCurrent = true;
    element.play().catch((error: unknown) => {
      if (isCurrent && error instanceof DOMException && error.name === "NotAllowedError") onBlocked();
    });
    return () => {
      isCurrent = false;
    };
    // `attempt` grows with each click on "Turn sound on".
    // biome-ignore lint/correctness/useExhaustiveDependencies: see above
  }, [track, onBlocked]);
  useEffect(() => {
    const speaker = rememberedDevice("speaker");
    // A loudspeaker that is gone or not permitted leaves the default one, which is what people expect.
    if (speaker !== undefined && audio.current !== null) audio.current.setSinkId?.(speaker).catch(() => undefined);
  }, []);
  // biome-ignore lint/a11y/useMediaCaption: live speech has no captions yet
  return <audio ref={audio} autoPlay />;
}
