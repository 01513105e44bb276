/**
 * Narrow readers for JSON that others wrote.
 *
 * None of them throws and none trusts: a value of another type reads as empty.
 * What is required is checked by the caller, who knows what to say instead.
 */
export type Obj = Readonly<Record<string, unknown>>;

export function isObj(value: unknown): value is Obj {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export const obj = (value: unknown): Obj => (isObj(value) ? value : {});
export const str = (value: unknown): string => (typeof value === "string" ? value : "");
export const strOrNull = (value: unknown): string | null => (typeof value === "string" ? value : null);
export const num = (value: unknown): number | null =>
  typeof value === "number" && Number.isFinite(value) ? value : null;
export const list = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);
export const objs = (value: unknown): readonly Obj[] => list(value).filter(isObj);

/** One of a closed set of words, or the fallback. */
export function oneOf<const T extends string>(value: unknown, words: readonly T[], fallback: T): T {
  return words.find((word) => word === value) ?? fallback;
}
