/** The pane against a record that answers late, wrongly or for another patient (W19, W24). */
import { act, cleanup, fireEvent, render, screen, waitFor } from "@testing-library/react";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { setLanguage } from "../i18n";
import { AppProviders } from "../theme";
import { RecordPane, type RecordPaneProps } from "./RecordPane";
import type { PatientBanner, View } from "./types";

const patient = (id: string): PatientBanner => ({
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

const problem = (patientId: string, name: string) => ({
  resourceType: "Condition",
  id: name,
  subject: { reference: `Patient/${patientId}` },
  code: { text: name },
});

interface Waiting {
  path: string;
  signal: AbortSignal;
  answer: (version: number, ...resources: unknown[]) => void;
  refuse: (code: string) => void;
}

let waiting: Waiting[] = [];

beforeEach(async () => {
  await setLanguage("en");
  waiting = [];
  vi.stubGlobal(
    "fetch",
    (path: string, init: RequestInit) =>
      new Promise<Response>((resolve, reject) => {
        const signal = init.signal as AbortSignal;
        signal.addEventListener("abort", () => reject(new DOMException("aborted", "AbortError")));
        const answer = (version: number, ...resources: unknown[]): void => {
          const body = { resourceType: "Bundle", entry: resources.map((resource) => ({ resource })) };
          resolve(Response.json(body, { headers: { "X-Context-Version": String(version) } }));
        };
        const refuse = (code: string): void =>
          resolve(Response.json({ error: { code, en: "", zh: "" } }, { status: 409 }));
        waiting.push({ path, signal, answer, refuse });
      }),
  );
});

afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
});

const problemsView: View = { page: "problems", item: "" };

const pane = (props: Partial<RecordPaneProps>) => (
  <AppProviders>
    <RecordPane
      consultId="c1"
      contextVersion={1}
      patient={patient("p1")}
      view={problemsView}
      following={true}
      canLead={false}
      leadName="Lin"
      {...props}
    />
  </AppProviders>
);

/** The request for this type and version. */
async function request(type: string, version: number): Promise<Waiting> {
  const path = `/api/consults/c1/record/${type}?version=${version}`;
  return waitFor(() => {
    const found = waiting.find((one) => one.path === path || one.path.startsWith(`${path}&`));
    if (found === undefined) throw new Error(`${path} was not asked for`);
    return found;
  });
}

describe("context version", () => {
  it("[W24] clears the former patient in the same commit, and aborts what was under way", async () => {
    const view = render(pane({}));
    (await request("Condition", 1)).answer(1, problem("p1", "Former problem"));
    await screen.findByText("Former problem");
    const slow = await request("Observation", 1);

    view.rerender(pane({ contextVersion: 2, patient: patient("p2") }));

    expect(screen.queryByText("Former problem")).toBeNull();
    expect(screen.getByTestId("record-page").dataset.context).toBe("2");
    await waitFor(() => expect(slow.signal.aborted).toBe(true));
    (await request("Condition", 2)).answer(2, problem("p2", "Present problem"));
    await screen.findByText("Present problem");
  });

  it("[AN2] keeps the page when only the version rises, and asks with the new one", async () => {
    const view = render(pane({ opening: "p1 17" }));
    (await request("Condition", 1)).answer(1, problem("p1", "Kept problem"));
    await screen.findByText("Kept problem");
    const slow = await request("AllergyIntolerance", 1);
    const asked = waiting.length;

    view.rerender(pane({ opening: "p1 17", contextVersion: 2 }));

    screen.getByText("Kept problem");
    expect(screen.getByTestId("record-page").dataset.context).toBe("2");
    expect(slow.signal.aborted).toBe(false);
    expect(waiting.length).toBe(asked);
    fireEvent.click(screen.getByTestId("record-tab-medications"));
    slow.refuse("context_changed");
    await request("AllergyIntolerance", 2);
    view.rerender(pane({ opening: "p1 18", contextVersion: 3 }));
    expect(screen.queryByText("Kept problem")).toBeNull();
    await request("Condition", 3);
  });

  it("[W24] has nothing between two patients, and does not cry out of sync", async () => {
    const view = render(pane({}));
    (await request("Condition", 1)).answer(1, problem("p1", "Former problem"));
    await screen.findByText("Former problem");

    view.rerender(pane({ contextVersion: 2, patient: null, isChanging: true }));

    expect(screen.queryByText("Former problem")).toBeNull();
    expect(screen.queryByRole("alert")).toBeNull();
    expect(screen.queryByTestId("record-page")).toBeNull();
  });

  it("[W19] never shows an answer of another version", async () => {
    render(pane({}));

    (await request("Condition", 1)).answer(2, problem("p1", "Too new"));

    await screen.findByText(/The open patient has changed/);
    expect(screen.queryByText("Too new")).toBeNull();
  });

  it("[W19] never shows another patient's resource, and says that something is missing", async () => {
    render(pane({}));

    (await request("Condition", 1)).answer(1, problem("p1", "Own problem"), problem("p2", "Foreign problem"));

    await screen.findByText("Own problem");
    expect(screen.queryByText("Foreign problem")).toBeNull();
    expect(screen.getByTestId("record-unreadable").textContent).toContain("1 entry cannot be shown");
  });

  it("[W19] blanks when out of sync", async () => {
    const view = render(pane({}));
    (await request("Condition", 1)).answer(1, problem("p1", "A problem"));
    await screen.findByText("A problem");

    view.rerender(pane({ inSync: false }));

    expect(screen.queryByText("A problem")).toBeNull();
    screen.getByText("NOT IN SYNC");
  });

  it("[W24] forgets where one browsed alone in the former patient", () => {
    const view = render(pane({ following: false }));
    fireEvent.click(screen.getByTestId("record-tab-labs"));
    expect(screen.getByTestId("record-page").dataset.page).toBe("labs");

    view.rerender(pane({ following: false, contextVersion: 2, patient: patient("p2") }));

    expect(screen.getByTestId("record-page").dataset.page).toBe("problems");
  });

  it("tells its owner which version is in the pane", () => {
    const onContextShown = vi.fn();
    const view = render(pane({ onContextShown }));
    view.rerender(pane({ onContextShown, contextVersion: 2, patient: patient("p2") }));
    expect(onContextShown.mock.calls).toEqual([[1], [2]]);
  });
});

describe("following", () => {
  it("turns everyone's page for the lead", async () => {
    const onTurnPage = vi.fn();
    render(pane({ canLead: true, onTurnPage }));

    fireEvent.click(screen.getByTestId("record-tab-labs"));

    expect(onTurnPage.mock.calls).toEqual([[{ page: "labs", item: "" }]]);
    // The shared view is the server's: nothing turns before it says so.
    expect(screen.getByTestId("record-page").dataset.page).toBe("problems");
  });

  it("browses alone for everyone else, and returns", () => {
    const onFollowingChange = vi.fn();
    const onTurnPage = vi.fn();
    const view = render(pane({ onFollowingChange, onTurnPage }));

    fireEvent.click(screen.getByTestId("record-tab-labs"));
    view.rerender(pane({ onFollowingChange, onTurnPage, following: false }));

    expect(screen.getByTestId("record-page").dataset.page).toBe("labs");
    fireEvent.click(screen.getByTestId("btn-return"));
    expect(onFollowingChange.mock.calls).toEqual([[false], [true]]);
    expect(onTurnPage).not.toHaveBeenCalled();
    expect(screen.getByTestId("btn-return").textContent).toBe("Return to Lin");
  });

  it("shows the lead's pointer only over the same version and view", () => {
    const pointer = { context_version: 1, view: problemsView, x: 0.25, y: 0.5, visible: true };
    const view = render(pane({ remotePointer: pointer }));
    expect(screen.getByTestId("lead-pointer").style.left).toBe("25%");

    for (const other of [
      { ...pointer, context_version: 2 },
      { ...pointer, view: { page: "labs", item: "" } as const },
      { ...pointer, visible: false },
    ]) {
      view.rerender(pane({ remotePointer: other }));
      expect(screen.queryByTestId("lead-pointer")).toBeNull();
    }
  });

  it("forgets a pointer that has gone silent", () => {
    vi.useFakeTimers();
    const pointer = { context_version: 1, view: problemsView, x: 0.25, y: 0.5, visible: true };
    render(pane({ remotePointer: pointer }));
    act(() => {
      vi.advanceTimersByTime(5_000);
    });
    expect(screen.queryByTestId("lead-pointer")).toBeNull();
    vi.useRealTimers();
  });

  it("offers no control on a wall", () => {
    render(pane({ wall: true }));
    expect(screen.queryAllByRole("button")).toEqual([]);
    expect(screen.queryAllByRole("tab")).toEqual([]);
    expect(screen.getByTestId("record-tab-problems").getAttribute("aria-current")).toBe("page");
  });
});
