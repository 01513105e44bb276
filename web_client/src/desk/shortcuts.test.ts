import { expect, it } from "vitest";
import { shortcutOf } from "./shortcuts";

const press = (key: string, target: EventTarget | null = document.body, extra: Partial<KeyboardEvent> = {}) =>
  shortcutOf({ key, target, ctrlKey: false, metaKey: false, altKey: false, ...extra });

it("knows its keys in either case", () => {
  expect([press("m"), press("M"), press("?"), press("x")]).toEqual(["mute", "mute", "help", null]);
});

it("leaves typing, dialogs and the browser's own shortcuts alone", () => {
  const input = document.createElement("input");
  const dialog = document.createElement("div");
  dialog.setAttribute("role", "dialog");
  const button = dialog.appendChild(document.createElement("button"));

  expect([press("m", input), press("m", button), press("s", document.body, { ctrlKey: true })]).toEqual([
    null,
    null,
    null,
  ]);
});
