import "../i18n";
import { MantineProvider } from "@mantine/core";
import { cleanup, render, screen } from "@testing-library/react";
import { afterEach, expect, it } from "vitest";
import type { Consult, DeviceUnbound } from "../protocol";
import { BindingBar } from "./BindingBar";

afterEach(cleanup);

const identifiers = [
  { label: "MRN", value: "T-1" },
  { label: "ID", value: "X9" },
];
const monitor = { id: "monitor", role: "device", name: "Monitor", hospital: "County", connection: "connected" };
const nurse = { id: "nurse", role: "nurse", name: "Lin", hospital: "County", connection: "connected" };
const open = { version: 3, patient: { id: "p1", name: "张三", identifiers } };

function show(changes: object, endings: Record<string, DeviceUnbound> = {}): void {
  const consult = {
    participants: { monitor, nurse },
    context: open,
    bindings: {},
    mismatches: {},
    reported: {},
    ...changes,
  } as unknown as Consult;
  render(
    <MantineProvider>
      <BindingBar consult={consult} me="nurse" endings={endings} nowMs={0} onManage={() => undefined} />
    </MantineProvider>,
  );
}

it("[BI6] (W22) shouts both identities of a mismatch, as an alert", () => {
  const mismatch = { device: "monitor", patient: "p1", identifiers, reported: "T-2", context_version: 3, at_ms: 0 };
  show({ mismatches: { monitor: mismatch } });
  const alert = screen.getByRole("alert");
  expect(alert.textContent).toContain("T-2");
  expect(alert.textContent).toContain("T-1");
  expect(alert.textContent).toContain("X9");
});

it("[BI1] (W20) says whose, by whom and asks for renewal 5 minutes before the end", () => {
  const binding = { device: "monitor", patient: "p1", context_version: 3, identifiers, bound_by: "nurse" };
  show({ bindings: { monitor: { ...binding, bound_at_ms: 0, until_ms: 5 * 60_000 } } });
  expect(screen.getByTestId("binding-bound").textContent).toContain("张三");
  expect(screen.getByTestId("binding-bound").textContent).toContain("T-1");
  expect(screen.getByRole("status").textContent).toContain("Ends in 5 min");
  expect(screen.getByTestId("binding-open")).toBeDefined();
});

it("[BI3] says why nothing is sent", () => {
  const ended = { type: "device_unbound", device: "monitor", reason: "discharged", by: null } as DeviceUnbound;
  show({}, { monitor: ended });
  expect(screen.getByTestId("binding-ended").textContent).toBe("The hospital reported a discharge.");
});

it("(W24) says nothing of anybody while no patient is open", () => {
  show({ context: null });
  expect(screen.queryByTestId("binding-bar")).toBeNull();
});
