/** Marks meet what they were made on or are not painted there; the identity bar; what is shown is told. */
import { act, cleanup, fireEvent, render, screen, waitFor } from "@testing-library/react";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { setLanguage } from "../i18n";
import { type AnyCommand, type Consult, type Inked, NO_TRACE, type Participant, SUMMARY, type View } from "../protocol";
import { PatientBanner } from "../record/PatientBanner";
import { afterEvent, afterSignal, createConsultStore } from "../store/consultStore";
import { AppProviders } from "../theme";
import { IdentityBar } from "./IdentityBar";
import { NOTHING_TOLD, nextInk } from "./ink";
import { type Note, readNote } from "./notes";
import { drawn, pathOf } from "./ShareLayer";
import { SharingProvider } from "./SharingProvider";
import { contentKey, fits, placeOn, wordsOf } from "./shape";
import { type ShareLink, ShareLinkValue, type Sharing, useSharing } from "./sharing";
import { useViewReport } from "./useViewReport";

beforeEach(() => setLanguage("en"));
afterEach(() => {
  cleanup();
  vi.useRealTimers();
});

const somebody = (id: string, hub: boolean, role: Participant["role"] = "doctor"): Participant => ({
  id,
  role,
  name: id,
  hospital: "",
  screen: null,
  screen_number: null,
  connection: "connected",
  joined_at_ms: 0,
  context_seen: 0,
  simulated: false,
  hub,
});

const CHECK = { patient: "p1", context_version: 3, hub: null, partner: null, skipped: null };
const TICK = { by: "anna", at_ms: 1, heard: ["name" as const, "birth_date" as const] };

const consult = (check: Consult["identity_check"]): Consult => ({
  ...NO_TRACE,
  id: "c1",
  revision: 1,
  title: "",
  status: "open",
  limit: 9,
  participants: {
    anna: somebody("anna", true),
    bo: somebody("bo", false, "guest"),
    wall: somebody("wall", true, "screen"),
  },
  context: {
    version: 3,
    opened_at_ms: 0,
    first_version: null,
    opened_by: "anna",
    patient: {
      id: "p1",
      name: "陈秀英",
      name_latin: "",
      sex: "female",
      birth_date: "1957-03-01",
      identifiers: [
        { label: "MRN", value: "17" },
        { label: "ID", value: "99" },
      ],
      test: true,
    },
  },
  context_version: 3,
  lead: null,
  view: SUMMARY,
  media_epoch: 0,
  producers: {},
  data_producers: {},
  identity_check: check,
});

const bar = (check: Consult["identity_check"], me: string, onCommand?: (command: AnyCommand) => Promise<void>) =>
  render(
    <AppProviders>
      <IdentityBar consult={consult(check)} me={me} {...(onCommand !== undefined && { onCommand })} />
    </AppProviders>,
  );

describe("identity bar (W23)", () => {
  it("[IC2] sends at least two that were heard", async () => {
    const sent = vi.fn((_: AnyCommand) => Promise.resolve());
    bar(CHECK, "anna", sent);
    expect(screen.getByTestId("identity-bar").textContent).toContain("hub, partner side");
    fireEvent.click(screen.getByTestId("identity-open"));
    fireEvent.click(await screen.findByTestId("identity-name"));
    expect((screen.getByTestId("identity-confirm") as HTMLButtonElement).disabled).toBe(true);
    fireEvent.click(screen.getByTestId("identity-birth_date"));
    fireEvent.click(screen.getByTestId("identity-confirm"));
    expect(sent).toHaveBeenCalledWith({ type: "tick_identity", context_version: 3, heard: ["name", "birth_date"] });
  });

  it("[IC2] names who is missing, until nobody is", () => {
    bar({ ...CHECK, hub: TICK }, "anna", () => Promise.resolve());
    expect(screen.getByTestId("identity-bar").textContent).not.toContain("hub");
    expect(screen.queryByTestId("identity-open")).toBeNull();
    cleanup();
    bar({ ...CHECK, hub: TICK, partner: TICK }, "bo", () => Promise.resolve());
    expect(screen.queryByTestId("identity-bar")).toBeNull();
  });

  it("[IC3] [IC4] wants a reason to close or to go on", async () => {
    const sent = vi.fn((_: AnyCommand) => Promise.resolve());
    bar(CHECK, "bo", sent);
    fireEvent.click(screen.getByTestId("identity-wrong"));
    const send = (await screen.findByTestId("identity-reason-send")) as HTMLButtonElement;
    expect(send.disabled).toBe(true);
    fireEvent.change(screen.getByTestId("identity-reason"), { target: { value: "another birth date" } });
    fireEvent.click(send);
    expect(sent).toHaveBeenCalledWith({
      type: "report_wrong_patient",
      context_version: 3,
      reason: "another birth date",
    });
  });

  it("stands on a wall without anything to press", () => {
    bar({ ...CHECK, skipped: { by: "bo", at_ms: 1, reason: "arrest" } }, "wall");
    expect(screen.getByTestId("identity-bar").textContent).toContain("bo: arrest");
    expect(screen.queryAllByRole("button")).toEqual([]);
  });
});

describe("[SN1] (W25) patients of one name", () => {
  const beat = (context_version: number, same_surname: boolean) =>
    ({ type: "beat", revision: 1, context_version, server_time_ms: 0, same_surname, stops_at_ms: null }) as const;

  it("are told apart by a label and another colour, only while that patient is open", () => {
    const state = { ...createConsultStore().getState(), consult: consult(CHECK) };
    expect(afterSignal(state, beat(3, true)).sameSurname).toBe(true);
    expect(afterSignal(state, beat(2, true)).sameSurname).toBeUndefined();
    const patient = consult(CHECK).context?.patient ?? null;
    const { rerender } = render(<PatientBanner patient={patient} contextVersion={3} namesake />);
    expect(screen.getByTestId("namesake").textContent).toBe("SAME SURNAME ALSO OPEN");
    expect(screen.getByTestId("patient-banner").dataset.namesake).toBe("true");
    rerender(<PatientBanner patient={null} contextVersion={4} namesake />);
    expect(screen.queryByTestId("namesake")).toBeNull();
  });
});

describe("a sheet", () => {
  const made = { content: contentKey("Glucose 5.1"), width: 800, height: 1600, language: "en" };

  it("[SH2] (W24) is the same with the same words and proportions only", () => {
    expect(fits(made, { ...made, width: 400, height: 801 })).toBe(true);
    expect(fits(made, { ...made, height: 1640 })).toBe(false);
    expect(fits(made, { ...made, content: contentKey("Glucose 5.2") })).toBe(false);
    expect(fits(made, null)).toBe(false);
  });

  it("has a key of what is written, not of what lies over it", () => {
    expect(contentKey(" a \n b ")).toBe(contentKey("a b"));
    expect(contentKey("a b")).toMatch(/^[0-9a-f]{16}$/);
    const page = document.createElement("div");
    page.innerHTML = "<p>Labs</p><div data-over-page>Dr Bo</div>";
    expect(wordsOf(page)).toBe("Labs");
  });

  it("counts in ten-thousandths of its width, within its edges", () => {
    const box = { left: 100, top: 50, width: 500, height: 1000 } as DOMRect;
    expect(placeOn(box, 350, 50)).toEqual([5_000, 0]);
    expect(placeOn(box, 9_999, 9_999)).toEqual([10_000, 20_000]);
    expect(placeOn(box, 0, 0)).toEqual([0, 0]);
  });
});

describe("the pen", () => {
  it("[SH5] goes on in another stroke when one is full, and stops at the limit", () => {
    let strokes = drawn([], 0, 0, true);
    for (let step = 1; step < 6_000; step++) strokes = drawn(strokes, (step % 2) * 5_000, step, false);
    expect(Math.max(...strokes.map(({ length }) => length))).toBe(512);
    expect(strokes.reduce((sum, { length }) => sum + length, 0)).toBeLessThanOrEqual(8_000);
    expect(strokes[1]?.slice(0, 2)).toEqual(strokes[0]?.slice(-2));
    expect(drawn(strokes.slice(0, 1), 3, 3, false)).toHaveLength(2);
  });

  it("draws what it was given", () => expect(pathOf([1, 2, 3, 4])).toBe("M1 2L3 4"));
});

describe("what is marked", () => {
  const note = {
    id: "n",
    page: "documents",
    item: "d1",
    shape: { content: "", width: 800, height: 900, language: "en" },
  };
  const seen: string[] = [];
  let sharing: Sharing | null = null;

  function Probe() {
    sharing = useSharing();
    seen.push(`${sharing?.view.item} ${sharing?.opened?.id} ${sharing?.strokes.length} ${sharing?.mode}`);
    return null;
  }

  it("[SH2] (W24) is not over another sheet, patient or version in any commit", () => {
    const link = {
      consult: consult(null),
      me: "anna",
      canMark: true,
      isConnected: false,
      notesSeen: 0,
      ink: null,
      ask: () => Promise.resolve(true),
      tell: () => Promise.resolve(),
    };
    const context = { consultId: "c1", patientId: "p1", opening: "p1 1", version: () => 3 };
    vi.stubGlobal("fetch", () => new Promise(() => undefined));
    const page = (item: string, version = 3) => (
      <AppProviders>
        <ShareLinkValue.Provider value={link}>
          <SharingProvider context={context} version={version} view={{ page: "documents", item }} shared>
            <Probe />
          </SharingProvider>
        </ShareLinkValue.Provider>
      </AppProviders>
    );
    const view = render(page("d1"));
    const marked = (): void =>
      act(() => {
        sharing?.setOpened(note as unknown as Note);
        sharing?.setStrokes(() => [[0, 0, 1, 1]]);
        sharing?.setMode("highlight");
      });
    marked();
    expect(seen.at(-1)).toBe("d1 n 1 highlight");

    view.rerender(page("d1;p=2"));
    view.rerender(page("d1"));
    marked();
    view.rerender(page("d1", 4));

    const stale = seen.slice(seen.indexOf("d1;p=2 undefined 0 none"));
    expect(seen.filter((one) => one.startsWith("d1;p=2") && !one.endsWith("undefined 0 none"))).toEqual([]);
    expect(stale.at(-1)).toBe("d1 undefined 0 none");
    vi.unstubAllGlobals();
  });
});

describe("[SH7] ink", () => {
  const freeze = {
    id: "z",
    context_version: 3,
    view: SUMMARY,
    by: "bo",
    at_ms: 1,
  } as unknown as Consult["page_freeze"];
  const inked = (rest: object) =>
    ({
      type: "inked",
      by: "bo",
      freeze: "z",
      context_version: 3,
      stroke: 0,
      of: 1,
      points: [0, 0, 1, 1],
      ...rest,
    }) as Inked;
  const state = { ...createConsultStore().getState(), consult: { ...consult(null), page_freeze: freeze } };

  it("(W24) is kept stroke by stroke for the freeze that stands, and goes with it", () => {
    const one = { ...state, ...afterSignal(state, inked({})) };
    const two = { ...one, ...afterSignal(one, inked({ stroke: 1, of: 2, points: [5, 5, 6, 6] })) };
    expect(Object.values(two.ink?.strokes ?? {})).toEqual([
      [0, 0, 1, 1],
      [5, 5, 6, 6],
    ]);
    expect(Object.keys(afterSignal(two, inked({ stroke: 0, of: 1 })).ink?.strokes ?? {})).toEqual(["0"]);
    for (const foreign of [{ freeze: "y" }, { context_version: 2 }, { by: "anna" }]) {
      expect(afterSignal(one, inked({ ...foreign, points: [9, 9, 9, 9] })).ink).toEqual(one.ink);
    }
    const gone = { type: "page_released", revision: 2, at_ms: 1, request: null, by: "bo" } as const;
    expect(afterEvent(one, gone).ink).toBeNull();
  });

  it("says the stroke that changed, then what was taken back, then old ones again, and nothing when there is none", () => {
    const first = nextInk(NOTHING_TOLD, [[0, 0, 1, 1]]);
    expect(first.stroke).toBe(0);
    const second = nextInk(first.told, [
      [0, 0, 1, 1],
      [2, 2, 3, 3],
    ]);
    expect(second.stroke).toBe(1);
    const undone = nextInk(second.told, [[0, 0, 1, 1]]);
    expect(undone.stroke).toBe(0);
    const said: (number | null)[] = [];
    let told = undone.told;
    for (let tick = 0; tick < 12; tick += 1) {
      const next = nextInk(told, [[0, 0, 1, 1]]);
      said.push(next.stroke);
      told = next.told;
    }
    expect(said.filter((stroke) => stroke === 0)).toHaveLength(2);
    expect(nextInk(NOTHING_TOLD, []).stroke).toBeNull();
    expect(nextInk({ lengths: [4], next: 0, idle: 0 }, []).stroke).toBe(0);
  });
});

describe("a note of the record", () => {
  const document = {
    resourceType: "DocumentReference",
    id: "note-1",
    status: "entered-in-error",
    subject: { reference: "Patient/p1" },
    category: [{ coding: [{ code: "page-note" }] }],
    author: [{ display: "Dr Bo", identifier: { value: "bo" } }],
    date: "2026-11-22T08:00:00Z",
    content: [{ attachment: { contentType: "image/svg+xml", data: "PHN2Zy8+" } }],
    extension: [
      {
        url: "urn:consilium:page",
        extension: [
          { url: "page", valueCode: "labs" },
          { url: "width", valuePositiveInt: 800 },
          { url: "height", valuePositiveInt: 900 },
        ],
      },
      { url: "urn:consilium:in-error", extension: [{ url: "reason", valueString: "wrong row" }] },
    ],
  };

  it("[SH6] (C23) says that it was a mistake and why", () => {
    const note = readNote(document, "p1");
    expect(note).toMatchObject({ page: "labs", item: "", author: "Dr Bo", inError: { reason: "wrong row" } });
    expect(note?.picture).toBe("data:image/svg+xml;base64,PHN2Zy8+");
  });

  it("(W24) is never another patient's, nor a document that is none", () => {
    expect(readNote(document, "p2")).toBeNull();
    expect(readNote({ ...document, category: [] }, "p1")).toBeNull();
    expect(
      readNote({ ...document, content: [{ attachment: { contentType: "text/html", data: "PA==" } }] }, "p1"),
    ).toBeNull();
    expect(readNote({ resourceType: "DocumentReference", category: "?", extension: 7 }, "p1")).toBeNull();
  });
});

describe("[VW1] what is shown", () => {
  const LABS: View = { page: "labs", item: "" };

  function Reporter({ tell, view, version }: { tell: ShareLink["tell"]; view: View; version: number }) {
    const link = { tell, isConnected: true } as unknown as ShareLink;
    useViewReport(link, version, view);
    return null;
  }

  it("is told when it has settled, again when it was declined, and ended when the tab is hidden or the pane goes", async () => {
    vi.useFakeTimers();
    const said: unknown[] = [];
    let busy = true;
    const tell = (command: AnyCommand): Promise<unknown> => {
      said.push(command.type === "show_view" && command.view && command.view.page);
      return busy ? Promise.reject(new Error("too_busy")) : Promise.resolve();
    };
    const view = render(<Reporter tell={tell} view={SUMMARY} version={1} />);
    view.rerender(<Reporter tell={tell} view={LABS} version={1} />);
    await act(() => vi.advanceTimersByTimeAsync(400));
    expect(said).toEqual(["labs"]);
    busy = false;
    await act(() => vi.advanceTimersByTimeAsync(2_100));
    expect(said).toEqual(["labs", "labs"]);
    const hidden = vi.spyOn(document, "visibilityState", "get").mockReturnValue("hidden");
    act(() => void document.dispatchEvent(new Event("visibilitychange")));
    await act(() => vi.advanceTimersByTimeAsync(400));
    expect(said.at(-1)).toBeNull();
    hidden.mockRestore();
    act(() => void document.dispatchEvent(new Event("visibilitychange")));
    await act(() => vi.advanceTimersByTimeAsync(400));
    view.unmount();
    vi.useRealTimers();
    await waitFor(() => expect(said.slice(-2)).toEqual(["labs", null]));
  });
});
