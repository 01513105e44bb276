/** The words record and signalling share (signaling/core/model.py), as this pane uses them. */

export const PAGES = ["summary", "problems", "medications", "allergies", "labs", "reports", "documents"] as const;
export type Page = (typeof PAGES)[number];

/** Where the lead is: a page and, within it, an opened entry (FHIR id or lab code; empty for the list). */
export interface View {
  page: Page;
  item: string;
}

export interface Identifier {
  label: string;
  value: string;
}

/** Who the patient is (W18). */
export interface PatientBanner {
  id: string;
  name: string;
  name_latin: string;
  sex: "female" | "male" | "other" | "unknown";
  /** YYYY-MM-DD */
  birth_date: string;
  identifiers: readonly [Identifier, Identifier];
  test: boolean;
}

/** The lead's scroll, as the `scrolled` signal carries it. */
export interface RemoteScroll {
  context_version: number;
  view: View;
  /** Top of the viewport as a fraction of the scrollable height. */
  y: number;
}

/** The lead's pointer, as the `pointed` signal carries it. */
export interface RemotePointer {
  context_version: number;
  view: View;
  /** Fractions of the page content's width and height. */
  x: number;
  y: number;
  visible: boolean;
}
