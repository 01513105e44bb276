/** On a phone each view is one tap away, and the bar says which is in sight. */
import { cleanup, fireEvent, render, screen } from "@testing-library/react";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import "../i18n";
import { inSight, Views } from "./Views";

const TOPS: Readonly<Record<string, number>> = { ecg: 8, video: 700, record: 950 };

beforeEach(() => {
  vi.stubGlobal("matchMedia", () => ({
    matches: true,
    addEventListener: () => undefined,
    removeEventListener: () => undefined,
  }));
});

afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
});

it("goes to the record in one tap, and moves nothing but the views", () => {
  render(<Views layout="balanced" ecg={<i>trace</i>} video={<i>pictures</i>} record={<i>summary</i>} />);
  const scroller = screen.getByText("trace").closest("section")?.parentElement as HTMLElement;
  for (const [place, name] of ["ecg", "video", "record"].entries()) {
    Object.defineProperty(scroller.children[place], "offsetTop", { value: TOPS[name] });
  }
  const scrolled = vi.fn();
  scroller.scrollTo = scrolled as never;

  fireEvent.click(screen.getByTestId("view-record"));

  expect(scrolled).toHaveBeenCalledExactlyOnceWith({ top: 942 });
  expect(screen.getByTestId("view-record").getAttribute("aria-current")).toBe("true");
  expect(screen.getByTestId("view-ecg").getAttribute("aria-current")).toBe("false");
  expect(screen.getByText("trace").isConnected, "a view that is out of sight goes on").toBe(true);
});

it.each([
  [0, "ecg"],
  [499, "ecg"],
  [692, "video"],
  [750, "record"],
  [900, "record"],
])("scrolled by %d px, %s is in sight", (scrollTop, name) => {
  const children = Object.values(TOPS).map((offsetTop) => ({ offsetTop })) as never;

  const place = inSight({ scrollTop, clientHeight: 600, scrollHeight: 1500, children });

  expect(Object.keys(TOPS)[place]).toBe(name);
});
