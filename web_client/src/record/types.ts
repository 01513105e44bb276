/** The words record and signalling share: one definition, the generated one. */
import type { Page, Pointed, Scrolled } from "../protocol/messages";

export type { Identifier, Page, PatientBanner, View } from "../protocol/messages";

/** In the order they are shown. */
export const PAGES = [
  "summary",
  "problems",
  "medications",
  "allergies",
  "labs",
  "vitals",
  "reports",
  "imaging",
  "documents",
  "history",
] as const satisfies readonly Page[];

/** The lead's scroll: `y` is the top of the viewport as a fraction of the scrollable height. */
export type RemoteScroll = Pick<Scrolled, "context_version" | "view" | "y">;

/** The lead's pointer, as fractions of the page content's width and height. */
export type RemotePointer = Pick<Pointed, "context_version" | "view" | "x" | "y" | "visible">;
