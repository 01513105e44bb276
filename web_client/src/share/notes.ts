/** Notes on pages of the open patient's record, read from the record itself: who comes later sees the same. [SH4] (C23) */
import { useQuery } from "@tanstack/react-query";
import { useHttp } from "../common/http";
import { num, type Obj, obj, objs, str } from "../common/read";
import type { PageShape } from "../protocol";
import { KEPT, ofVersion, type RecordContext, recordKey, recordPath } from "../record/recordData";

export const NOTE_CATEGORY = "page-note";

export interface Note {
  readonly id: string;
  readonly page: string;
  readonly item: string;
  readonly shape: PageShape;
  readonly author: string;
  /** Who made it, as a participant of its consult. */
  readonly participant: string;
  readonly at: string;
  readonly text: string;
  /** `data:` address of the drawing. Shown as a picture only: nothing in it can run. */
  readonly picture: string;
  /** Said to be a mistake; by whom and why. */
  readonly inError: { readonly by: string; readonly reason: string; readonly at: string } | null;
}

/** Whether a document of the record is a note on a page of it. */
export const isNote = (document: Obj): boolean =>
  objs(document.category).some((kind) => objs(kind.coding).some(({ code }) => code === NOTE_CATEGORY));

/** One note, or null when it is none or not this patient's. */
export function readNote(document: Obj, patientId: string): Note | null {
  if (!isNote(document) || obj(document.subject).reference !== `Patient/${patientId}`) return null;
  const page = parts(document, "urn:consilium:page");
  const attachment = obj(obj(objs(document.content)[0]).attachment);
  const data = str(attachment.data);
  const shape = {
    content: str(page.content),
    width: num(page.width) ?? 0,
    height: num(page.height) ?? 0,
    language: str(page.language),
  };
  if (shape.width < 100 || shape.height < 1 || attachment.contentType !== "image/svg+xml" || data === "") return null;
  const author = obj(objs(document.author)[0]);
  const error = parts(document, "urn:consilium:in-error");
  return {
    id: str(document.id),
    page: str(page.page),
    item: str(page.item),
    shape,
    author: str(author.display),
    participant: str(obj(author.identifier).value),
    at: str(document.date),
    text: str(document.description),
    picture: `data:image/svg+xml;base64,${data}`,
    inError:
      document.status === "entered-in-error"
        ? { by: str(error.by), reason: str(error.reason), at: str(error.at) }
        : null,
  };
}

/** The parts of an extension by name, whatever type each has. */
function parts(document: Obj, url: string): Obj {
  const found = objs(document.extension).find((extension) => extension.url === url);
  return Object.fromEntries(
    objs(found?.extension).map((part) => [
      str(part.url),
      Object.entries(part).find(([name]) => name.startsWith("value"))?.[1],
    ]),
  );
}

/** Every note of the patient, newest first; empty until they are there. `seen` makes it ask again. */
export function useNotes(context: RecordContext, seen: number, enabled: boolean): readonly Note[] {
  const http = useHttp();
  const query = useQuery({
    queryKey: recordKey(context, "notes", seen),
    queryFn: async ({ signal }) => {
      const version = context.version();
      const path = recordPath(context, version, "DocumentReference", `category=${NOTE_CATEGORY}`);
      const bundle = ofVersion(await http.getAnswer(path, obj, { signal }), version);
      return objs(bundle.entry)
        .flatMap(({ resource }) => readNote(obj(resource), context.patientId) ?? [])
        .sort((a, b) => b.at.localeCompare(a.at));
    },
    enabled,
    placeholderData: (before) => before,
    ...KEPT,
  });
  return query.data ?? [];
}
