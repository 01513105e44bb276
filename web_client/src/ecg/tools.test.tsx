/** Measuring together, the numbers' panel, and the way of a strip, as far as they need no browser. */
import { MantineProvider } from "@mantine/core";
import { act, cleanup, fireEvent, render, renderHook, screen } from "@testing-library/react";
import { afterEach, beforeAll, describe, expect, it } from "vitest";
import { en, i18n, zh } from "../i18n";
import type { AnyCommand, EcgSnapshot } from "../protocol";
import { WORDS } from "../waveform/words";
import { readStreams } from "./api";
import { Taken } from "./SnapshotDialog";
import { StillLayer } from "./StillLayer";
import { ToolPanel } from "./ToolPanel";
import { settled } from "./useSnapshot";
import { useTools } from "./useTools";
import { VitalsPanel } from "./VitalsPanel";
import { foldVital, NO_VITALS, withVersion } from "./vitals";

const T0 = 1_790_000_000_000_000;
const point = (atUs: number, uv = 0) => ({ lead: "II", atUs: T0 + atUs, uv });

beforeAll(async () => {
  // What happy-dom lacks and Mantine asks for.
  window.matchMedia ??= (() => ({ matches: false, addEventListener: () => undefined })) as never;
  await i18n.changeLanguage("en");
});

afterEach(cleanup);

describe("tools", () => {
  function tools(beatsUs: readonly number[] = []) {
    const sent: AnyCommand[] = [];
    const props = {
      place: { streamId: 7, version: 3 },
      isStill: true,
      marks: [],
      me: "me",
      beatsUs: [beatsUs],
      onCommand: async (command: AnyCommand) => void sent.push(command),
    };
    return { sent, props, ...renderHook((now: typeof props) => useTools(now), { initialProps: props }) };
  }

  it("(W32) are put away with everything unfinished when the trace moves again", () => {
    const { result, rerender, props } = tools();
    act(() => result.current.choose("caliper"));
    act(() => result.current.setLegs({ from: point(0), to: point(800_000), isFixed: true }));
    rerender({ ...props, isStill: false });
    expect([result.current.tool, result.current.legs]).toEqual([null, null]);
  });

  it("share a QT only with its formula and RR, taken from the computed beats", () => {
    const { result, sent } = tools([T0 - 960_000, T0 + 40_000]);
    act(() => result.current.choose("qt"));
    act(() => result.current.setLegs({ from: point(0), to: point(400_000), isFixed: true }));
    expect([result.current.rrMs, result.current.isRrComputed]).toEqual([1000, true]);
    act(() => result.current.shareLegs());
    expect(sent).toMatchObject([
      { type: "put_ecg_mark", mark: { kind: "qt", text: "QTc 400 ms (Fridericia), QT 400 ms, RR 1000 ms, n 1" } },
    ]);
  });

  it("share a QT alone where no RR is known, and never a QTc", () => {
    const { result, sent } = tools();
    act(() => result.current.choose("qt"));
    act(() => result.current.setLegs({ from: point(0), to: point(400_000), isFixed: true }));
    act(() => result.current.shareLegs());
    expect(sent).toMatchObject([{ mark: { kind: "qt", text: "" } }]);
  });

  it("average several beats", () => {
    const { result } = tools();
    act(() => result.current.choose("qt"));
    for (const rr of [1000, 640]) {
      act(() => result.current.setLegs({ from: point(0), to: point(400_000), isFixed: true }));
      act(() => result.current.setRr(rr));
      act(() => result.current.addBeat());
    }
    expect(result.current.beats).toEqual([
      { qtMs: 400, rrMs: 1000 },
      { qtMs: 400, rrMs: 640 },
    ]);
  });
});

describe("the RR of a QT", () => {
  const beats = [[T0 - 960_000, T0 + 40_000]];

  function Panel() {
    const tools = useTools({
      ...{ place: { streamId: 7, version: 3 }, isStill: true, marks: [], me: "me", beatsUs: beats },
      onCommand: async () => undefined,
    });
    return (
      <MantineProvider>
        <button
          type="button"
          onClick={() => {
            tools.choose("qt");
            tools.setLegs({ from: point(0), to: point(400_000), isFixed: true });
          }}
        >
          begin
        </button>
        <ToolPanel tools={tools} sampleRateMhz={500_000} isFiltered={false} isConnected marksCount={0} side="left" />
      </MantineProvider>
    );
  }

  it("is what its field says, computed or typed, and typing is not interrupted", () => {
    render(<Panel />);
    fireEvent.click(screen.getByText("begin"));
    const field = screen.getByTestId("qt-rr") as HTMLInputElement;
    expect(field.value).toBe("1000");
    field.focus();
    fireEvent.change(field, { target: { value: "640" } });
    expect(document.activeElement).toBe(screen.getByTestId("qt-rr"));
    expect(screen.getByTestId("qt-result").textContent).toContain("464");
    fireEvent.change(field, { target: { value: "" } });
    fireEvent.blur(field);
    expect((screen.getByTestId("qt-rr") as HTMLInputElement).value).toBe("1000");
    expect(screen.getByTestId("qt-result").textContent).toContain("400");
  });

  it("stands on a panel that makes way for what it covers", () => {
    render(<Panel />);
    fireEvent.click(screen.getByText("begin"));
    expect(screen.getByTestId("ecg-tool-panel").dataset.side).toBe("left");
    fireEvent.click(screen.getByTestId("ecg-tool-move"));
    expect(screen.getByTestId("ecg-tool-panel").dataset.side).toBe("right");
  });
});

describe("what stands on a still page", () => {
  const lane = { derived: false, usPerPx: 10_000, uvPerPx: 25, lead: "II", fromUs: T0, xPx: 40 };
  const column = { ...lane, wPx: 125, topPx: 0, midPx: 50, bottomPx: 99 };
  const strip = { ...lane, wPx: 300, topPx: 300, midPx: 350, bottomPx: 399 };
  const other = { ...column, lead: "aVL", xPx: 165, fromUs: T0 + 1_250_000 };
  const mark = {
    ...{ id: "m", stream_id: 7, context_version: 3, lead: "II", text: "", by: "you", at_ms: 1 },
    kind: "caliper",
    ...{ from_us: T0 + 500_000, from_uv: 0, to_us: T0 + 2_500_000, to_uv: 100, name: "You" },
  } as const;
  const ignore = (): void => undefined;
  const show = (lanes: readonly (typeof column)[]) =>
    render(
      <StillLayer
        map={{ atUs: T0 + 3_000_000, lanes }}
        {...{ tool: null, legs: null, hasMarch: false, stepUs: 2_000, marks: [mark], chosen: null, pointers: [] }}
        {...{ sample: async () => null, onLegs: ignore, onPlace: ignore, onPoint: ignore, onChoose: ignore }}
        onProblem={ignore}
      />,
    );
  const lines = () =>
    [...screen.getByTestId("ecg-mark").querySelectorAll("line")].map((line) =>
      ["x1", "x2", "y1"].map((name) => Number(line.getAttribute(name))),
    );

  it("is drawn where both its ends are, never on into the next lead", () => {
    const { unmount } = show([column, other, strip]);
    expect(lines().map(([x1, x2]) => [x1, x2])).toEqual([
      [90, 90],
      [290, 290],
      [90, 290],
    ]);
    expect(lines().every(([, , y1]) => (y1 ?? 0) > 300)).toBe(true);
    unmount();
    show([column, other]);
    expect(lines().map(([x1, x2]) => [x1, x2])).toEqual([
      [90, 90],
      [90, 165],
    ]);
  });

  it("has its words whole inside the page", () => {
    show([{ ...strip, xPx: 20, wPx: 350 }]);
    const words = screen.getByTestId("ecg-measured");
    const half = (8 * (words.textContent ?? "").length) / 2;
    expect(words.getAttribute("text-anchor")).toBe("middle");
    expect(Number(words.getAttribute("x")) - half).toBeGreaterThanOrEqual(0);
  });
});

describe("the numbers", () => {
  const now = Date.now() * 1000;
  const vitals = foldVital(
    foldVital(
      withVersion(NO_VITALS, 3),
      { t: "vital", cv: 3, code: "SpO2", v: 97, u: "%", at: now, q: "ok", sim: true },
      performance.now(),
    ),
    { t: "alarm", cv: 3, text: "SpO2 LOW", at: now, prio: "high" },
    performance.now(),
  );
  const show = (isLost: boolean, isTraceSimulated = true) =>
    render(
      <MantineProvider>
        <VitalsPanel
          heart={undefined}
          vitals={vitals}
          serverUs={() => now}
          isTraceLost={isLost}
          isPathLost={isLost}
          isTraceSimulated={isTraceSimulated}
        />
      </MantineProvider>,
    );

  it("(W8, W9, W12, W36) are blank when lost, marked when simulated; an alarm is text with its time", () => {
    const { unmount } = show(false);
    expect(screen.getByTestId("vital-SpO2").textContent).toContain("97");
    expect(screen.getByTestId("vital-NIBP").textContent).toContain("not sent");
    expect(screen.getByTestId("heart-rate").textContent).toContain("---");
    expect(screen.getByTestId("vitals").textContent).toContain("SIMULATED");
    expect(screen.getByTestId("reported-alarm").textContent).toMatch(/\d\d:\d\d:\d\d: SpO2 LOW/);
    unmount();
    show(true);
    expect(screen.getByTestId("vital-SpO2").textContent).toContain("---");
  });

  it("(W9) mark each simulated value where the trace is real", () => {
    show(false, false);
    expect(screen.getByTestId("vital-SpO2").textContent).toContain("SIMULATED");
    expect(screen.getByTestId("heart-rate").textContent).not.toContain("SIMULATED");
  });

  it("(W35, W37) offer nothing to acknowledge, silence or set", () => {
    show(false);
    const buttons = screen.getAllByRole("button").map(({ dataset }) => dataset.testid);
    expect(buttons).toEqual(["reported-alarm", "not-an-alarm"]);
    expect(document.querySelector("audio, input")).toBeNull();
  });
});

describe("the words", () => {
  it("(W15) are those that the view itself paints", () => {
    expect([en.ecg.alarms.use, zh.ecg.alarms.use]).toEqual([WORDS.en.warning, WORDS.zh.warning]);
  });

  it("(W35, W36, W37, W38) say what this is not, and what stays at the bedside", () => {
    expect(en.ecg.alarms.system).toMatch(/neither a primary nor a secondary alarm system.*IEC 60601-1-8/);
    expect(en.ecg.alarms.bedside).toContain("stay at the bedside");
    expect(en.ecg.alarms.colours).toContain("No value is coloured by limits");
    expect(zh.ecg.alarms.system).toContain("IEC 60601-1-8");
  });
});

describe("a strip", () => {
  const waiting = { kind: "waiting", atUs: 5, id: "s1" } as const;

  it("(W33) is in the record only when the consult says so", () => {
    const snapshot = { id: "s1" } as EcgSnapshot;
    expect(settled(waiting, undefined, undefined)).toBe(waiting);
    expect(settled(waiting, snapshot, undefined)).toEqual({ kind: "taken", snapshot });
    expect(settled(waiting, undefined, "archive_unavailable")).toMatchObject({ kind: "failed", atUs: 5 });
    expect(settled({ ...waiting, id: null }, snapshot, undefined)?.kind).toBe("waiting");
  });
});

it("(W33) a strip that no print holds whole says so before it is printed", () => {
  const show = (seconds: number) =>
    render(
      <MantineProvider>
        <Taken
          context={{ consultId: "c", version: 3 }}
          snapshot={{ id: "s1", from_us: T0, to_us: T0 + seconds * 1e6, gaps: 0, lost: 0, sha256: "0" } as EcgSnapshot}
        />
      </MantineProvider>,
    );
  const { unmount } = show(20);
  expect(screen.queryByTestId("snapshot-unprinted")).toBeNull();
  unmount();
  show(200);
  expect(screen.getByTestId("snapshot-unprinted").textContent).toContain("at most 24 sheets");
});

it("a stream without leads, rate or span cannot be drawn and is left out", () => {
  const whole = {
    id: "w",
    stream_id: 7,
    leads: ["I"],
    sample_rate_mhz: 500_000,
    lsb_nv: 5_000,
    first_us: 1,
    last_us: 2,
  };
  const broken = [{ ...whole, leads: [] }, { ...whole, sample_rate_mhz: 0 }, { ...whole, last_us: null }, null, "x"];
  expect(readStreams([whole, ...broken]).map(({ id, stream }) => [id, stream.stream_id])).toEqual([["w", 7]]);
});
