/** Long records come in pages, each entry once; nothing of a former patient's pages, pictures or sheets stays (W19, W24). */
import { cleanup, fireEvent, render, screen, waitFor } from "@testing-library/react";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { setLanguage } from "../i18n";
import { AppProviders } from "../theme";
import { drawPage, type PDFDocumentProxy } from "./pages/pdf";
import { layoutOf, stepped, zoomAt, zoomForKey } from "./pages/ZoomBox";
import { boundedZoom, WHOLE } from "./place";
import { RecordPane, type RecordPaneProps } from "./RecordPane";
import { joinPages } from "./recordData";

const patient = (id: string): NonNullable<RecordPaneProps["patient"]> => ({
  id,
  name: id,
  name_latin: "",
  sex: "female",
  birth_date: "1964-03-14",
  identifiers: [
    { label: "MRN", value: "1" },
    { label: "ID", value: "2" },
  ],
  test: true,
});

interface Asked {
  path: string;
  signal: AbortSignal;
  answer: (response: Response) => void;
}

let asked: Asked[] = [];
/** Answers of a server; null: the request waits in `asked`. */
let serve: (url: URL) => Response | null = () => null;
const urls = { made: [] as string[], revoked: [] as string[] };

beforeEach(async () => {
  await setLanguage("en");
  asked = [];
  urls.made = [];
  urls.revoked = [];
  vi.stubGlobal(
    "fetch",
    (path: string, init: RequestInit) =>
      new Promise<Response>((resolve, reject) => {
        const signal = init.signal as AbortSignal;
        signal.addEventListener("abort", () => reject(new DOMException("aborted", "AbortError")));
        const ready = serve(new URL(path, "http://hub"));
        if (ready === null) asked.push({ path, signal, answer: resolve });
        else resolve(ready);
      }),
  );
  vi.spyOn(URL, "createObjectURL").mockImplementation(() => {
    urls.made.push(`blob:${urls.made.length}`);
    return urls.made.at(-1) ?? "";
  });
  vi.spyOn(URL, "revokeObjectURL").mockImplementation((url) => void urls.revoked.push(url));
});

afterEach(() => {
  cleanup();
  vi.restoreAllMocks();
  vi.unstubAllGlobals();
});

const pane = (props: Partial<RecordPaneProps>) => (
  <AppProviders>
    <RecordPane
      consultId="c1"
      contextVersion={1}
      patient={patient("p1")}
      view={{ page: "problems", item: "" }}
      following={true}
      canLead={true}
      {...props}
    />
  </AppProviders>
);

const bundle = (version: string, body: object): Response =>
  Response.json({ resourceType: "Bundle", entry: [], ...body }, { headers: { "X-Context-Version": version } });

/** A store that pages as the server does; the cursor is the number of the next resource. */
function store(type: string, resources: readonly object[]): (url: URL) => Response {
  return (url) => {
    const version = url.searchParams.get("version") ?? "";
    if (!url.pathname.endsWith(`/${type}`)) return bundle(version, { total: 0 });
    const from = Number(url.searchParams.get("_cursor") ?? 0);
    const to = from + 100;
    const next = { relation: "next", url: `${url.pathname}?version=${version}&_cursor=${to}` };
    return bundle(version, {
      entry: resources.slice(from, to).map((resource) => ({ resource })),
      ...(from === 0 && { total: resources.length }),
      ...(to < resources.length && { link: [next] }),
    });
  };
}

const of = (id: string, rest: object) => ({ id, subject: { reference: "Patient/p1" }, ...rest });

describe("a long record", () => {
  it("is read whole where a part would mislead, each entry once", async () => {
    const problems = Array.from({ length: 350 }, (_, n) =>
      of(`c${n}`, { resourceType: "Condition", code: { text: `Problem ${n}.` } }),
    );
    serve = store("Condition", problems);

    render(pane({}));

    await screen.findByText("Problem 349.");
    for (const n of [0, 99, 100, 199, 349]) expect(screen.getAllByText(`Problem ${n}.`)).toHaveLength(1);
    expect(screen.queryByTestId("record-rest")).toBeNull();
  });

  it("shows the newest page of documents, says so, and gets older ones for everyone through the shared view", async () => {
    const documents = Array.from({ length: 250 }, (_, n) =>
      of(`d${n}`, { resourceType: "DocumentReference", description: `Document ${n}.`, status: "current" }),
    );
    serve = store("DocumentReference", documents);
    const onTurnPage = vi.fn();
    const view = render(pane({ onTurnPage, view: { page: "documents", item: "" } }));
    await screen.findByText("Document 99.");
    expect(screen.queryByText("Document 100.")).toBeNull();
    expect(screen.getByTestId("record-rest").textContent).toContain("newest 100 of 250");

    fireEvent.click(screen.getByTestId("record-older"));
    expect(onTurnPage.mock.calls).toEqual([[{ page: "documents", item: ";p=2" }]]);
    view.rerender(pane({ onTurnPage, view: { page: "documents", item: ";p=2" } }));

    await screen.findByText("Document 199.");
    expect(screen.queryByText("Document 200.")).toBeNull();
    expect(screen.getAllByText("Document 150.")).toHaveLength(1);
  });

  it("finds an entry that the lead has opened far down the list", async () => {
    const documents = Array.from({ length: 250 }, (_, n) =>
      of(`d${n}`, { resourceType: "DocumentReference", description: `Document ${n}.`, status: "current" }),
    );
    serve = store("DocumentReference", documents);

    render(pane({ view: { page: "documents", item: "d240;p=2" } }));

    await screen.findByText("Document 240.");
  });

  it("has an entry once that moved between two pages while they were read", () => {
    const page = (items: { id: string; text: string }[]) => ({
      entries: { items, unreadable: [] },
      read: items.length,
      total: 3,
      cursor: null,
    });
    const joined = joinPages([
      page([
        { id: "a", text: "old" },
        { id: "b", text: "b" },
      ]),
      page([{ id: "a", text: "new" }]),
    ]);
    expect(joined.entries.items).toEqual([
      { id: "a", text: "new" },
      { id: "b", text: "b" },
    ]);
  });
});

const withPicture = of("scan", {
  resourceType: "DocumentReference",
  status: "current",
  description: "Scan",
  content: [{ attachment: { contentType: "image/png", url: "Binary/scan" } }],
});

describe("pictures", () => {
  it("[W24] of the former patient are aborted on the way, and never shown when they come late", async () => {
    const documents = store("DocumentReference", [withPicture]);
    serve = (url) => (url.pathname.includes("/Binary/") ? null : documents(url));
    const view = render(pane({ view: { page: "documents", item: "scan" } }));
    const late = await waitFor(() => {
      const found = asked.find(({ path }) => path.includes("/Binary/scan?version=1"));
      if (found === undefined) throw new Error("the picture was not asked for");
      return found;
    });

    view.rerender(pane({ contextVersion: 2, patient: patient("p2"), view: { page: "documents", item: "scan" } }));
    await waitFor(() => expect(late.signal.aborted).toBe(true));
    late.answer(new Response(new Blob(["late"]), { headers: { "X-Context-Version": "1" } }));

    await screen.findByText("This entry is not in the record");
    expect(screen.queryByTestId("document-image")).toBeNull();
    expect(urls.made).toEqual([]);
  });

  it("[W24] give their address back with the patient", async () => {
    const documents = store("DocumentReference", [withPicture]);
    const png = (): Response => new Response(new Blob(["png"]), { headers: { "X-Context-Version": "1" } });
    serve = (url) => (url.pathname.includes("/Binary/") ? png() : documents(url));
    const view = render(pane({ view: { page: "documents", item: "scan" } }));
    await screen.findByTestId("document-image");

    view.rerender(pane({ contextVersion: 2, patient: patient("p2"), view: { page: "documents", item: "scan" } }));

    expect(screen.queryByTestId("document-image")).toBeNull();
    expect(urls.revoked).toEqual(urls.made);
    expect(urls.made.length).toBeGreaterThan(0);
  });

  it("[W19] with another version's bytes are refused", async () => {
    const documents = store("DocumentReference", [withPicture]);
    const other = (): Response => new Response(new Blob(["png"]), { headers: { "X-Context-Version": "2" } });
    serve = (url) => (url.pathname.includes("/Binary/") ? other() : documents(url));

    render(pane({ view: { page: "documents", item: "scan" } }));

    await screen.findByText(/The open patient has changed/);
    expect(screen.queryByTestId("document-image")).toBeNull();
  });

  it("are enlarged around one point, within their edges", () => {
    expect(layoutOf(WHOLE)).toEqual({ size: 100, left: 0, top: 0 });
    const corner = boundedZoom({ percent: 300, x: 0, y: 100 });
    expect(layoutOf(corner)).toEqual({ size: 300, left: 0, top: -200 });
    for (let n = 0; n < 500; n += 1) {
      const zoom = boundedZoom({ percent: 100 + ((n * 37) % 701), x: (n * 13) % 101, y: (n * 41) % 101 });
      const { size, left, top } = layoutOf(zoom);
      expect(Math.max(left, top)).toBeLessThanOrEqual(0);
      expect(Math.min(left, top)).toBeGreaterThanOrEqual(100 - size);
      const again = layoutOf(zoomAt(size, left, top));
      expect(Math.abs(again.left - left)).toBeLessThanOrEqual(size / 100);
    }
    expect(stepped(WHOLE, 1).percent).toBe(150);
    expect(zoomForKey("0", corner)).toEqual(WHOLE);
    expect(zoomForKey("ArrowRight", WHOLE)).toBeNull();
  });
});

describe("PDF sheets", () => {
  it("[W24] that are left while they are drawn leave nothing in the canvas", async () => {
    let finish = (): void => undefined;
    const drawing = { promise: new Promise<void>((resolve) => (finish = resolve)), cancel: vi.fn() };
    const sheet = { getViewport: () => ({ width: 100, height: 140 }), render: () => drawing };
    const document = { getPage: async () => sheet } as unknown as PDFDocumentProxy;
    const canvas = window.document.createElement("canvas");
    const gone = new AbortController();

    const drawn = drawPage(document, 1, canvas, 200, gone.signal);
    await waitFor(() => expect(canvas.width).toBe(100));
    gone.abort();
    finish();
    await drawn;

    expect(drawing.cancel).toHaveBeenCalledOnce();
    expect([canvas.width, canvas.height]).toEqual([0, 0]);
  });
});
