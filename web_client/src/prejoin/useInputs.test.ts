import { act, renderHook, waitFor } from "@testing-library/react";
import { afterEach, expect, test, vi } from "vitest";
import { useInputs } from "./useInputs";

afterEach(() => vi.unstubAllGlobals());

function devices(getUserMedia: () => Promise<MediaStream>): void {
  vi.stubGlobal("navigator", {
    ...navigator,
    mediaDevices: {
      getUserMedia,
      enumerateDevices: async () => [],
      addEventListener: () => undefined,
      removeEventListener: () => undefined,
    },
  });
}

test("who joins while a device is still opening takes the wish along", () => {
  devices(() => new Promise(() => undefined));
  const { result } = renderHook(() => useInputs());
  expect(result.current.take()).toEqual({
    camera: { track: null, isOpening: true },
    microphone: { track: null, isOpening: true },
  });
});

test("what was switched off while it opened, or failed, stays off", async () => {
  devices(() => Promise.reject(new DOMException("no", "NotFoundError")));
  const { result } = renderHook(() => useInputs());
  await waitFor(() => expect(result.current.camera.busy).toBe(false));
  await waitFor(() => expect(result.current.microphone.busy).toBe(false));
  const off = { track: null, isOpening: false };
  expect(result.current.take()).toEqual({ camera: off, microphone: off });
});

test("a device that is opening can be switched off before joining", () => {
  devices(() => new Promise(() => undefined));
  const { result } = renderHook(() => useInputs());
  act(() => result.current.toggle("camera"));
  expect(result.current.take().camera.isOpening).toBe(false);
});
