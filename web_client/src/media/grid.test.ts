import { expect, it } from "vitest";
import { bestGrid } from "./grid";

it.each([
  [1, 800, 600, 1, 1],
  [2, 1200, 400, 2, 1],
  [2, 400, 900, 1, 2],
  [3, 1000, 700, 2, 2],
  [4, 1600, 900, 2, 2],
  [5, 1600, 900, 3, 2],
  [0, 800, 600, 1, 1],
])("%i pictures in %i x %i stand in %i columns and %i rows", (count, width, height, columns, rows) => {
  expect(bestGrid(count, width, height)).toEqual({ columns, rows });
});
