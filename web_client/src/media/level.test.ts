import { expect, it } from "vitest";
import { levelOf } from "./level";

it.each([
  [1, 1],
  [0.001, 0],
  [0.0316, 0.5],
  [0, 0],
])("a level of %f full scale fills %f of the meter", (amplitude, filled) => {
  expect(levelOf(new Float32Array(64).fill(amplitude))).toBeCloseTo(filled, 2);
});
