import { act, cleanup, render, screen } from "@testing-library/react";
import { useEffect } from "react";
import { afterEach, expect, it, vi } from "vitest";
import { freezeMine } from "../ecg/standing";
import type { EcgPage } from "../ecg/useEcgPage";
import type { Consult } from "../protocol";
import { EcgPane, type EcgPaneProps } from "./EcgPane";

let page: EcgPage;
let mounted = 0;
vi.mock("../ecg/EcgWorkspace", () => ({
  EcgWorkspace: (props: { page: EcgPage; stream: { stream_id: number } }) => {
    page = props.page;
    useEffect(() => {
      mounted += 1;
    }, []);
    return <output>{props.stream.stream_id}</output>;
  },
}));

type Freeze = { stream_id: number; at_ms: number } | null;
const sent = (stream_id: number, participant = "monitor") => ({
  ...{ label: "ecg", participant, vitals: null },
  waveform: { stream_id, patient: "p", device: participant, leads: ["I"] },
});
const BOTH = { a: sent(7), b: sent(8, "other") };

const consult = (freeze: Freeze, sources: object = BOTH, version = 1, openedMs = version): Consult =>
  ({
    context: { version, patient: { id: "p" }, opened_at_ms: openedMs },
    context_version: version,
    data_producers: sources,
    bindings: { m: { device: "monitor", patient: "p" }, o: { device: "other", patient: "p" } },
    mismatches: {},
    ecg_freeze: freeze,
  }) as unknown as Consult;
const paneOf = (present: Consult, isShown = true) => {
  const rest = { client: {}, media: {}, me: "me", keys: { current: null }, onCommand: async () => undefined };
  return <EcgPane {...(rest as unknown as EcgPaneProps)} consult={present} isShown={isShown} />;
};
const pane = (freeze: Freeze) => paneOf(consult(freeze));
const shown = (): string | null => screen.getByRole("status").textContent;
const freeze = (): void => act(() => page.setStanding((standing) => freezeMine(standing, 5_000_000)));

afterEach(() => {
  cleanup();
  mounted = 0;
});

it("a freeze for all brings those along who look at another signal; each may go back", () => {
  const { rerender } = render(pane(null));
  expect(shown()).toBe("7");
  rerender(pane({ stream_id: 8, at_ms: 1 }));
  expect(shown()).toBe("8");
  act(() => page.choose(7));
  rerender(pane({ stream_id: 8, at_ms: 1 }));
  expect(shown()).toBe("7");
  freeze();
  rerender(pane({ stream_id: 8, at_ms: 2 }));
  expect([shown(), page.shown.kind, page.change]).toEqual(["8", "shared", null]);
});

it("who joins later sees the signal that is frozen", () => {
  render(pane({ stream_id: 8, at_ms: 1 }));
  expect(shown()).toBe("8");
});

it("[W19] a frozen page is hidden while not in sync, and there again afterwards", () => {
  const { rerender } = render(pane(null));
  freeze();
  rerender(paneOf(consult(null), false));
  expect(screen.queryByRole("status")).toBeNull();
  expect(screen.getByTestId("ecg").dataset.why).toBe("not in sync");
  rerender(pane(null));
  expect([shown(), page.shown]).toEqual(["7", { kind: "mine", atUs: 5_000_000 }]);
});

it("[W24] no page outlives its context, also when the next one came while not in sync", () => {
  const { rerender } = render(pane(null));
  freeze();
  rerender(paneOf(consult(null), false));
  rerender(paneOf(consult(null, BOTH, 2)));
  expect(page.shown.kind).toBe("live");
  freeze();
  rerender(paneOf(consult(null, BOTH, 3)));
  expect([page.shown.kind, mounted]).toEqual(["live", 3]);
});

it("[AN2] a report that is opened beside the patient ends nothing; the same patient opened again does (W18)", () => {
  const { rerender } = render(pane(null));
  freeze();
  rerender(paneOf(consult(null, BOTH, 2, 1)));
  expect([shown(), page.shown, mounted]).toEqual(["7", { kind: "mine", atUs: 5_000_000 }, 1]);
  rerender(paneOf(consult(null, BOTH, 4, 4)));
  expect([page.shown.kind, mounted]).toEqual(["live", 2]);
});

it("[W5] a device that returns as a new signal keeps the workspace, and the change has a name", () => {
  const { rerender } = render(paneOf(consult(null, { a: sent(7) })));
  rerender(paneOf(consult(null, { a: sent(9) })));
  expect([shown(), page.change?.kind, mounted]).toEqual(["9", "returned", 1]);
  act(() => page.forgetChange());
  expect(page.change).toBeNull();
});

it("[W5] a page that stands stays on its signal until its viewer goes back to live", () => {
  const { rerender } = render(paneOf(consult(null, { a: sent(7) })));
  freeze();
  rerender(paneOf(consult(null, { a: sent(9) })));
  expect([shown(), page.shown.kind, page.newer?.stream_id]).toEqual(["7", "mine", 9]);
  act(() => page.setStanding((standing) => ({ ...standing, own: null })));
  expect([shown(), page.shown.kind, page.newer, page.change?.kind]).toEqual(["9", "live", null, "returned"]);
});

it("[W22] a page that stands goes when its device turns out to be somebody else's", () => {
  const { rerender } = render(paneOf(consult(null, { a: sent(7) })));
  freeze();
  rerender(
    paneOf({ ...consult(null, {}), bindings: {}, mismatches: { monitor: { patient: "p" } } } as unknown as Consult),
  );
  expect(screen.queryByRole("status")).toBeNull();
});
