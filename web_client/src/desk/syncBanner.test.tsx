import { MantineProvider } from "@mantine/core";
import { cleanup, fireEvent, render, screen } from "@testing-library/react";
import { afterEach, expect, it, vi } from "vitest";
import "../i18n";
import type { Consult, ProgramTrouble } from "../protocol";
import { SyncBanner } from "./SyncBanner";

afterEach(cleanup);

const refused: ProgramTrouble = {
  id: "f1",
  key: "k1",
  name: "Acme PACS",
  reason: "refused",
  event_id: "e1",
  event: "Patient-open",
  context_version: 3,
  at_ms: 2,
};
const silent: ProgramTrouble = { ...refused, id: "f2", name: "Dictation", reason: "silent", at_ms: 1 };

function show(programs: ProgramTrouble[], onDismiss?: (program: string) => void): void {
  const consult = {
    participants: {},
    context: null,
    programs: Object.fromEntries(programs.map((program) => [program.id, program])),
  } as unknown as Consult;
  render(
    <MantineProvider>
      <SyncBanner consult={consult} onDismiss={onDismiss} />
    </MantineProvider>,
  );
}

it("(W19) (H17) (H18) names each outside program that is not in sync, and why, until it is", () => {
  show([refused, silent]);
  const texts = screen.getAllByRole("alert").map(({ textContent }) => textContent);
  expect(texts[0]).toContain("NOT IN SYNC – Dictation");
  expect(texts[0]).toContain("does not answer");
  expect(texts[1]).toContain("NOT IN SYNC – Acme PACS");
  expect(texts[1]).toContain("refused");
  expect(screen.queryByRole("button")).toBeNull();
  cleanup();
  show([]);
  expect(screen.queryByRole("alert")).toBeNull();
});

it("[PR4] lets somebody who may say that they have looked", () => {
  const onDismiss = vi.fn();
  show([refused], onDismiss);
  fireEvent.click(screen.getByRole("button"));
  expect(onDismiss).toHaveBeenCalledWith("f1");
});
