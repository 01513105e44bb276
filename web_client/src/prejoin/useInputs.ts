/** Camera, microphone and loudspeaker of the pre-join page; tracks that are not taken along are closed. */
import { useCallback, useEffect, useRef, useState } from "react";
import {
  DeviceError,
  type DeviceList,
  type DeviceProblem,
  listDevices,
  openCamera,
  openMicrophone,
  rememberDevice,
  rememberedDevice,
  watchDevices,
} from "../media/devices";
import type { JoinInput, JoinInputs } from "./PreJoin";

export interface Input {
  readonly track: MediaStreamTrack | null;
  readonly problem: DeviceProblem | null;
  readonly busy: boolean;
  readonly deviceId: string | null;
}

export interface Inputs {
  readonly camera: Input;
  readonly microphone: Input;
  readonly speaker: string | null;
  readonly devices: DeviceList;
  readonly toggle: (kind: "camera" | "microphone") => void;
  readonly pick: (kind: "camera" | "microphone", deviceId: string) => void;
  readonly pickSpeaker: (deviceId: string) => void;
  /** Hand the tracks over to the consult; what is still opening is given up here and opened there. */
  readonly take: () => JoinInputs;
}

const NO_DEVICES: DeviceList = { camera: [], microphone: [], speaker: [] };

const OPENERS = { camera: openCamera, microphone: openMicrophone };

export function useInputs(): Inputs {
  const [devices, setDevices] = useState(NO_DEVICES);
  const [speaker, setSpeaker] = useState<string | null>(() => rememberedDevice("speaker") ?? null);
  const isTaken = useRef(false);
  const refresh = useCallback(() => {
    listDevices().then(setDevices, () => setDevices(NO_DEVICES));
  }, []);
  const camera = useInput("camera", refresh, isTaken);
  const microphone = useInput("microphone", refresh, isTaken);
  useEffect(() => watchDevices(refresh), [refresh]);
  const of = { camera, microphone };
  return {
    camera: camera.input,
    microphone: microphone.input,
    speaker: speaker ?? devices.speaker[0]?.deviceId ?? null,
    devices,
    toggle: (kind) => (isWanted(of[kind].input) ? of[kind].close() : of[kind].open()),
    pick: (kind, deviceId) => {
      rememberDevice(kind, deviceId);
      of[kind].open(deviceId);
    },
    pickSpeaker: (deviceId) => {
      rememberDevice("speaker", deviceId);
      setSpeaker(deviceId);
    },
    take: () => {
      isTaken.current = true;
      return { camera: joining(camera.input), microphone: joining(microphone.input) };
    },
  };
}

/** It is on, or will be as soon as it answers. */
export function isWanted({ track, busy }: Input): boolean {
  return track !== null || busy;
}

function joining({ track, busy }: Input): JoinInput {
  return { track, isOpening: track === null && busy };
}

interface OneInput {
  readonly input: Input;
  readonly open: (deviceId?: string) => void;
  readonly close: () => void;
}

function useInput(
  kind: "camera" | "microphone",
  onOpened: () => void,
  isTaken: { readonly current: boolean },
): OneInput {
  const [input, setInput] = useState<Input>({ track: null, problem: null, busy: true, deviceId: null });
  const current = useRef<MediaStreamTrack | null>(null);
  /** Raised by every open, close and unmount: an answer that comes later is not wanted any more. */
  const wish = useRef(0);

  const put = useCallback((track: MediaStreamTrack | null, problem: DeviceProblem | null): void => {
    if (current.current !== track) current.current?.stop();
    current.current = track;
    setInput({ track, problem, busy: false, deviceId: track?.getSettings().deviceId ?? null });
  }, []);

  const open = useCallback(
    (deviceId?: string): void => {
      wish.current += 1;
      const mine = wish.current;
      setInput((before) => ({ ...before, busy: true, problem: null }));
      OPENERS[kind](deviceId).then(
        (track) => {
          if (mine === wish.current) put(track, null);
          else track.stop();
          onOpened();
        },
        (error: unknown) => {
          if (mine === wish.current) put(null, error instanceof DeviceError ? error.problem : "failed");
          onOpened();
        },
      );
    },
    [kind, onOpened, put],
  );

  const close = useCallback((): void => {
    wish.current += 1;
    put(null, null);
  }, [put]);

  useEffect(() => {
    open();
    return () => {
      wish.current += 1;
      if (!isTaken.current) current.current?.stop();
    };
  }, [open, isTaken]);

  return { input, open, close };
}
