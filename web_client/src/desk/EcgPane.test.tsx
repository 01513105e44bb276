import { cleanup, render, screen } from "@testing-library/react";
import { afterEach, expect, it, vi } from "vitest";
import type { Consult } from "../protocol";
import { EcgPane, type EcgPaneProps } from "./EcgPane";

vi.mock("../ecg/EcgWorkspace", () => ({
  EcgWorkspace: ({ stream, onStream }: { stream: { stream_id: number }; onStream: (id: number) => void }) => (
    <button type="button" onClick={() => onStream(stream.stream_id === 7 ? 8 : 7)}>
      {stream.stream_id}
    </button>
  ),
}));

const waveform = (stream_id: number) => ({ label: "ecg", waveform: { stream_id, patient: "p" }, vitals: null });
const consult = (freeze: { stream_id: number; at_ms: number } | null): Consult =>
  ({
    context: { version: 1, patient: { id: "p" } },
    context_version: 1,
    data_producers: { a: waveform(7), b: waveform(8) },
    bindings: {},
    mismatches: {},
    ecg_freeze: freeze,
  }) as unknown as Consult;
const pane = (freeze: Parameters<typeof consult>[0]) => {
  const rest = { client: {}, media: {}, me: "me", keys: { current: null }, onCommand: async () => undefined };
  return <EcgPane {...(rest as unknown as EcgPaneProps)} consult={consult(freeze)} isShown />;
};
const shown = (): string | null => screen.getByRole("button").textContent;

afterEach(cleanup);

it("a freeze for all brings those along who look at another signal; each may go back", () => {
  const { rerender } = render(pane(null));
  expect(shown()).toBe("7");
  rerender(pane({ stream_id: 8, at_ms: 1 }));
  expect(shown()).toBe("8");
  screen.getByRole("button").click();
  rerender(pane({ stream_id: 8, at_ms: 1 }));
  expect(shown()).toBe("7");
  rerender(pane({ stream_id: 8, at_ms: 2 }));
  expect(shown()).toBe("8");
});

it("who joins later sees the signal that is frozen", () => {
  render(pane({ stream_id: 8, at_ms: 1 }));
  expect(shown()).toBe("8");
});

it("says why there is no trace: a silent hub is another matter than a device that is away", () => {
  const why = (given: Partial<EcgPaneProps>): string | undefined => {
    cleanup(); // a trace that was shown is held for a while
    const shownPane = pane(null);
    render({ ...shownPane, props: { ...shownPane.props, ...given } });
    return screen.getByTestId("ecg").dataset.why;
  };
  const none = { ...consult(null), data_producers: {} };
  const context = { version: 1, patient: { id: "q" } } as unknown as Consult["context"];
  expect(why({ isShown: false })).toBe("not in sync");
  expect(why({ consult: none })).toBe("no source");
  expect(why({ consult: { ...consult(null), context } })).toBe("other patient");
  expect(why({ consult: { ...none, context: null } })).toBe("no patient");
});
