/** State that belongs to one thing. */
import { useCallback, useState } from "react";

/**
 * Like `useState`, but another key begins with `initial` again, in the very render that learns of it.
 *
 * What comes late from the former one changes nothing: its setter keeps its key.
 */
export function useStateOf<T>(key: unknown, initial: T): [T, (change: T | ((before: T) => T)) => void] {
  const [kept, setKept] = useState({ key, value: initial });
  if (kept.key !== key) setKept({ key, value: initial });
  const set = useCallback(
    (change: T | ((before: T) => T)): void =>
      setKept((before) => {
        if (before.key !== key) return before;
        return { key, value: change instanceof Function ? change(before.value) : change };
      }),
    [key],
  );
  return [kept.key === key ? kept.value : initial, set];
}
