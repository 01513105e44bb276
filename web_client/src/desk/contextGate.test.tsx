import { act, render } from "@testing-library/react";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { useContextGate } from "./contextGate";

function View({
  version,
  opening,
  isFresh,
  confirm,
}: {
  version: number;
  opening?: string;
  isFresh: boolean;
  confirm: (version: number) => void;
}) {
  const isShown = useContextGate(opening ?? String(version), version, isFresh, true, confirm);
  return <p>{isShown ? `patient of ${version}` : "blank"}</p>;
}

/** Let clearing, painting and confirming each have their turn. */
function settle(): void {
  for (let turn = 0; turn < 3; turn += 1) act(() => void vi.advanceTimersByTime(500));
}

describe("[W19] [W24] clearing before painting before confirming", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it("shows nothing in the commit that learns of a new patient, and confirms last", () => {
    const confirmed: [number, string | null][] = [];
    const confirm = (version: number): void => void confirmed.push([version, view.container.textContent]);
    const view = render(<View version={4} isFresh confirm={confirm} />);
    settle();
    expect(view.container.textContent).toBe("patient of 4");

    view.rerender(<View version={5} isFresh confirm={confirm} />);
    expect(view.container.textContent).toBe("blank");
    settle();

    expect(confirmed).toEqual([
      [4, "patient of 4"],
      [5, "patient of 5"],
    ]);
  });

  it("[AN2] keeps the same patient in sight under another version, and confirms that version", () => {
    const confirm = vi.fn();
    const view = render(<View version={4} opening="p1 17" isFresh confirm={confirm} />);
    settle();

    view.rerender(<View version={5} opening="p1 17" isFresh confirm={confirm} />);
    expect(view.container.textContent).toBe("patient of 5");
    settle();
    view.rerender(<View version={6} opening="p1 18" isFresh confirm={confirm} />);
    expect(view.container.textContent).toBe("blank");

    expect(confirm.mock.calls).toEqual([[4], [5]]);
  });

  it("blanks when the state is no longer fresh and confirms again after it has come back", () => {
    const confirm = vi.fn();
    const view = render(<View version={4} isFresh confirm={confirm} />);
    settle();
    view.rerender(<View version={4} isFresh={false} confirm={confirm} />);
    expect(view.container.textContent).toBe("blank");

    view.rerender(<View version={4} isFresh confirm={confirm} />);
    settle();

    expect(confirm.mock.calls).toEqual([[4], [4]]);
  });
});
