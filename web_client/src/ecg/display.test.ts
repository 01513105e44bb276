import { expect, it } from "vitest";
import { after, LAYOUTS, readDisplay, rememberDisplay, rememberedDisplay, SPEEDS, USUAL } from "./display";

it("(W26) is 25 mm/s and 10 mm/mV unless somebody chose otherwise", () => {
  expect(readDisplay(null)).toMatchObject({ speed: 25, gain: 10, filter: "off" });
});

it("takes what makes sense and leaves the rest as usual", () => {
  const text = JSON.stringify({ speed: 50, gain: 17, layout: "6x2", order: 4, rhythm: "V1", timing: "never" });
  expect(readDisplay(text)).toEqual({ ...USUAL, speed: 50, layout: "6x2", rhythm: "V1" });
  for (const bad of ["", "[]", "null", "{", '"x"']) expect(readDisplay(bad)).toEqual(USUAL);
});

it("is remembered by this display", () => {
  rememberDisplay({ ...USUAL, mode: "scroll", notch: 50 });
  expect(rememberedDisplay()).toEqual({ ...USUAL, mode: "scroll", notch: 50 });
});

it("steps round and round", () => {
  expect([after(SPEEDS, 50), after(SPEEDS, 12.5), after(LAYOUTS, "rhythm")]).toEqual([12.5, 25, "auto"]);
});
