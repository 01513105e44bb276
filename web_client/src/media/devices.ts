/**
 * Cameras, microphones and loudspeakers of this computer.
 *
 * Audio and video are always asked for separately, so that a missing or refused camera never costs the microphone,
 * and nobody is kept out of a consult for want of either. What was chosen is remembered per browser; a remembered
 * device that has gone is quietly replaced by the default one.
 */

export type DeviceKind = "camera" | "microphone" | "speaker";

/** The four things that go wrong differ in what the person can do about them. */
export type DeviceProblem = "denied" | "missing" | "busy" | "insecure" | "failed";

export class DeviceError extends Error {
  constructor(
    readonly kind: DeviceKind | "screen",
    readonly problem: DeviceProblem,
    options?: ErrorOptions,
  ) {
    super(`${kind}: ${problem}`, options);
  }
}

export interface DeviceList {
  readonly camera: readonly MediaDeviceInfo[];
  readonly microphone: readonly MediaDeviceInfo[];
  readonly speaker: readonly MediaDeviceInfo[];
}

const INPUT_KINDS = { videoinput: "camera", audioinput: "microphone", audiooutput: "speaker" } as const;

/** Map the browser's exception names (Media Capture and Streams, section 10.2.2) to what we can help with. */
export function problemOf(error: unknown): DeviceProblem {
  const name = error instanceof Error || error instanceof DOMException ? error.name : "";
  switch (name) {
    case "NotAllowedError":
    case "PermissionDeniedError":
    case "SecurityError":
      return "denied";
    case "NotFoundError":
    case "OverconstrainedError":
      return "missing";
    case "NotReadableError":
    case "AbortError":
      return "busy";
    default:
      return "failed";
  }
}

const STORAGE_PREFIX = "consilium.device.";

/** Browsers may forbid storage; a forgotten device is no reason to fail. */
export function rememberedDevice(kind: DeviceKind): string | undefined {
  try {
    return localStorage.getItem(STORAGE_PREFIX + kind) ?? undefined;
  } catch {
    return undefined;
  }
}

export function rememberDevice(kind: DeviceKind, deviceId: string): void {
  try {
    localStorage.setItem(STORAGE_PREFIX + kind, deviceId);
  } catch {
    // Private windows refuse storage: the choice then lasts as long as the page.
  }
}

function mediaDevices(kind: DeviceKind | "screen"): MediaDevices {
  // On plain HTTP from another machine the browser hides the whole interface.
  const devices: MediaDevices | undefined = navigator.mediaDevices;
  if (devices === undefined || !window.isSecureContext) throw new DeviceError(kind, "insecure");
  return devices;
}

/** List what is plugged in; names are empty until a permission was given. */
export async function listDevices(): Promise<DeviceList> {
  const found: Record<DeviceKind, MediaDeviceInfo[]> = { camera: [], microphone: [], speaker: [] };
  for (const info of await mediaDevices("camera").enumerateDevices()) {
    if (info.deviceId !== "") found[INPUT_KINDS[info.kind]].push(info);
  }
  return found;
}

/** Tell `onChange` whenever something is plugged in or out. */
export function watchDevices(onChange: () => void): () => void {
  const devices: MediaDevices | undefined = navigator.mediaDevices;
  devices?.addEventListener("devicechange", onChange);
  return () => devices?.removeEventListener("devicechange", onChange);
}

const CAMERA_SHAPE = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 25, max: 30 } } as const;

async function firstTrack(kind: DeviceKind | "screen", open: () => Promise<MediaStream>): Promise<MediaStreamTrack> {
  try {
    const [track] = (await open()).getTracks();
    if (track === undefined) throw new DeviceError(kind, "missing");
    return track;
  } catch (error) {
    if (error instanceof DeviceError) throw error;
    throw new DeviceError(kind, problemOf(error), { cause: error });
  }
}

/** Open a camera. @throws {DeviceError} with the problem a person can act on. */
export async function openCamera(deviceId = rememberedDevice("camera")): Promise<MediaStreamTrack> {
  const devices = mediaDevices("camera");
  const wish = deviceId === undefined ? {} : { deviceId: { ideal: deviceId } };
  return firstTrack("camera", () => devices.getUserMedia({ video: { ...CAMERA_SHAPE, ...wish } }));
}

/** Open a microphone with the browser's own echo and noise treatment. @throws {DeviceError} */
export async function openMicrophone(deviceId = rememberedDevice("microphone")): Promise<MediaStreamTrack> {
  const devices = mediaDevices("microphone");
  const wish = deviceId === undefined ? {} : { deviceId: { ideal: deviceId } };
  return firstTrack("microphone", () =>
    devices.getUserMedia({
      audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true, ...wish },
    }),
  );
}

/** Let the person pick a screen or window. `detail` keeps text sharp at the cost of frame rate. @throws {DeviceError} */
export async function openScreen(): Promise<MediaStreamTrack> {
  const devices = mediaDevices("screen");
  const track = await firstTrack("screen", () =>
    devices.getDisplayMedia({ video: { frameRate: { max: 15 } }, audio: false }),
  );
  track.contentHint = "detail";
  return track;
}
