/** The shape a translation must have: the same keys as the English part, any sentence. */
export type SameKeys<T> = { readonly [K in keyof T]: T[K] extends string ? string : SameKeys<T[K]> };
