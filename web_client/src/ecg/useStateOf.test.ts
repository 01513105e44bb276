import { act, renderHook } from "@testing-library/react";
import { expect, it } from "vitest";
import { useStateOf } from "./useStateOf";

it("begins anew with another key, and takes nothing that comes late from the former one", () => {
  const seen: unknown[] = [];
  const { result, rerender } = renderHook(
    ({ id }) => {
      const state = useStateOf(id, 0);
      seen.push(state[0]);
      return state;
    },
    { initialProps: { id: 7 } },
  );
  const [, setOfSeven] = result.current;
  act(() => setOfSeven(3));
  act(() => setOfSeven((before) => before + 1));
  expect(result.current[0]).toBe(4);
  seen.length = 0;
  rerender({ id: 8 });
  expect(seen).not.toContain(4);
  act(() => setOfSeven(5));
  expect(result.current[0]).toBe(0);
});
