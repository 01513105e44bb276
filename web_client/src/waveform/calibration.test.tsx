import { MantineProvider } from "@mantine/core";
import { cleanup, fireEvent, render, screen } from "@testing-library/react";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { CalibrationDialog } from "./CalibrationDialog";
import {
  currentCalibration,
  onCalibrationChange,
  readCalibration,
  removeCalibration,
  storeCalibration,
} from "./calibration";

const onScreen = (screenLike: Partial<Screen> & { availLeft?: number }): void => {
  vi.stubGlobal("screen", { width: 1920, height: 1080, availLeft: 0, availTop: 0, ...screenLike });
};

beforeEach(() => {
  window.localStorage.clear();
  vi.stubGlobal("devicePixelRatio", 1);
  onScreen({});
});
afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
});

describe("calibration", () => {
  it("[W27] is kept per display and void when ratio, resolution or display are others", () => {
    storeCalibration(3.6, 3.7, "left");
    expect(readCalibration()).toMatchObject({ calibrated: true, pxPerMmX: 3.6, pxPerMmY: 3.7 });
    expect(readCalibration().id).toBe(currentCalibration()?.id);
    onScreen({ availLeft: 1920 });
    expect(readCalibration().calibrated).toBe(false);
    storeCalibration(5, 5.1, "right");
    onScreen({});
    expect(currentCalibration()).toMatchObject({ label: "left", pxPerMmX: 3.6 });
    for (const change of [() => vi.stubGlobal("devicePixelRatio", 1.25), () => onScreen({ width: 1280 })]) {
      change();
      expect(readCalibration()).toMatchObject({ calibrated: false, pxPerMmX: 96 / 25.4 });
    }
    onScreen({});
    vi.stubGlobal("devicePixelRatio", 1);
    removeCalibration();
    expect(readCalibration().calibrated).toBe(false);
    onScreen({ availLeft: 1920 });
    expect(currentCalibration()?.label).toBe("right");
  });

  it("believes nothing from storage that nobody could have measured", () => {
    for (const stored of ["{", "7", '[{"pxPerMmX":4}]', '[{"pxPerMmX":900,"pxPerMmY":4}]']) {
      window.localStorage.setItem("consilium.displays", stored);
      expect(readCalibration().calibrated).toBe(false);
    }
  });

  it("tells who listens", () => {
    const heard = vi.fn();
    const forget = onCalibrationChange(heard);
    storeCalibration(4, 4);
    forget();
    storeCalibration(4, 4);
    expect(heard).toHaveBeenCalledOnce();
  });
});

describe("the calibration dialog", () => {
  const closed = vi.fn();
  const open = (): void => {
    closed.mockClear();
    render(
      <MantineProvider>
        <CalibrationDialog lang="en" onClose={closed} />
      </MantineProvider>,
    );
  };
  const type = (id: string, text: string): void => {
    fireEvent.change(screen.getByTestId(id), { target: { value: text } });
  };

  it("[W27] keeps what a ruler says, in both directions", () => {
    open();
    fireEvent.click(screen.getByTestId("calibration-save"));
    expect(closed).not.toHaveBeenCalled();
    expect(screen.getAllByText(/in millimetres/)).toHaveLength(2);
    type("calibration-across", "100,5");
    type("calibration-down", "0");
    fireEvent.click(screen.getByTestId("calibration-save"));
    expect(closed).not.toHaveBeenCalled();
    type("calibration-down", "75");
    fireEvent.click(screen.getByTestId("calibration-save"));
    expect(closed).toHaveBeenCalledOnce();
    const kept = readCalibration();
    expect(kept.calibrated).toBe(true);
    expect(kept.pxPerMmX).toBeCloseTo(400 / 100.5, 6);
    expect(kept.pxPerMmY * 75).toBeGreaterThan(100);
  });

  it("warns of a stretched picture", () => {
    open();
    type("calibration-across", "100");
    expect(screen.queryByTestId("calibration-stretched")).toBeNull();
    type("calibration-down", "150");
    expect(screen.getByTestId("calibration-stretched").textContent).toMatch(/\d+ %/);
  });

  it("[W27] takes a card's outline, and can be undone", () => {
    storeCalibration(5, 5);
    open();
    fireEvent.click(screen.getByText("A bank or ID card"));
    fireEvent.change(screen.getByTestId("calibration-card-x"), { target: { value: "342.5" } });
    fireEvent.change(screen.getByTestId("calibration-card-y"), { target: { value: "216" } });
    fireEvent.click(screen.getByTestId("calibration-save"));
    expect(readCalibration().pxPerMmX).toBeCloseTo(342.5 / 85.6, 3);
    expect(readCalibration().pxPerMmY).toBeCloseTo(216 / 53.98, 3);
    cleanup();
    open();
    fireEvent.click(screen.getByTestId("calibration-remove"));
    expect(readCalibration().calibrated).toBe(false);
  });
});
