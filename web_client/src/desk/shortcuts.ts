/**
 * Single-key shortcuts that can be switched off (WCAG 2.1.4) and never act while somebody types.
 */
import { useEffect, useState } from "react";

/** What the ECG does on a key; nothing while there is none. */
export type EcgShortcut = "ecgFreeze" | "ecgCaliper" | "ecgQt" | "ecgSnapshot" | "ecgReview" | "ecgSpeed" | "ecgGain";

export type Shortcut = "mute" | "camera" | "share" | "layout" | "lead" | "patient" | "invite" | EcgShortcut | "help";

export const KEYS: Readonly<Record<Shortcut, string>> = {
  mute: "m",
  camera: "v",
  share: "s",
  layout: "l",
  lead: "t",
  patient: "p",
  invite: "i",
  ecgFreeze: "f",
  ecgCaliper: "c",
  ecgQt: "q",
  ecgSnapshot: "k",
  ecgReview: "r",
  ecgSpeed: "w",
  ecgGain: "g",
  help: "?",
};

const STORAGE_KEY = "consilium.shortcuts";

/** The shortcut a key press means, if any. */
export function shortcutOf(
  event: Pick<KeyboardEvent, "key" | "ctrlKey" | "metaKey" | "altKey" | "target">,
): Shortcut | null {
  if (event.ctrlKey || event.metaKey || event.altKey) return null;
  if (
    event.target instanceof Element &&
    event.target.closest("input, textarea, select, [contenteditable], [role=dialog]")
  ) {
    return null;
  }
  const key = event.key.toLowerCase();
  const found = (Object.keys(KEYS) as Shortcut[]).find((name) => KEYS[name] === key);
  return found ?? null;
}

function remembered(): boolean {
  try {
    return localStorage.getItem(STORAGE_KEY) !== "off";
  } catch {
    return true;
  }
}

/** Listen for shortcuts; returns whether they are on and a switch for that. */
export function useShortcuts(onShortcut: (name: Shortcut) => void): [boolean, (on: boolean) => void] {
  const [isOn, setOn] = useState(remembered);
  useEffect(() => {
    if (!isOn) return;
    const listen = (event: KeyboardEvent): void => {
      const name = event.repeat ? null : shortcutOf(event);
      if (name === null) return;
      event.preventDefault();
      onShortcut(name);
    };
    window.addEventListener("keydown", listen);
    return () => window.removeEventListener("keydown", listen);
  }, [isOn, onShortcut]);
  const change = (on: boolean): void => {
    setOn(on);
    try {
      localStorage.setItem(STORAGE_KEY, on ? "on" : "off");
    } catch {
      // Without storage the choice lasts as long as the page.
    }
  };
  return [isOn, change];
}
