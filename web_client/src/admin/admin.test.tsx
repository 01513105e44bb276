import { MantineProvider } from "@mantine/core";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { cleanup, fireEvent, render, screen, waitFor } from "@testing-library/react";
import { afterEach, expect, it } from "vitest";
import { Router } from "wouter";
import { memoryLocation } from "wouter/memory-location";
import { ApiError, type Http, HttpContext } from "../common/http";
import AdminPage from "./AdminPage";
import { codeText } from "./codes";
import { lackingOf, registrationOf } from "./program";
import { filterQuery } from "./queries";
import { durationText, enrolCommand, offsetText, sizeText } from "./words";

afterEach(cleanup);

const gateway = {
  id: "g_1",
  name: "Server room",
  hospital_name: "County",
  connected: true,
  connected_at_ms: 1,
  software: "consilium 0.1.0",
  policy: "3f9a",
  received: 5,
  outbox_waiting: 2,
  offset_us: -6_200_000,
  last: { kind: "ORU^R01", at_ms: 1, state: "applied" },
  crossing_p50_us: 20_000,
  crossing_p99_us: 36_000,
};
const overview = { gateways: [gateway], codes: [], hospitals: [{ id: "north", name: "County" }], has_authority: false };
const code = { id: "ec_1", code: "ABCD-EFGH-JKLM", expires_at_ms: Date.now() + 900_000 };

function show(path: string, answers: Readonly<Record<string, unknown>>) {
  const sent: string[] = [];
  const answer = async <T,>(asked: string, read: (body: unknown) => T): Promise<T> => {
    const found = Object.keys(answers).find((one) => asked.startsWith(one));
    if (found === undefined) throw new ApiError(403, "not_allowed", "No.", "不可以。");
    return read(answers[found]);
  };
  const http = {
    get: answer,
    post: (asked: string, body: unknown, read: (body: unknown) => unknown) => {
      sent.push(`POST ${asked} ${JSON.stringify(body)}`);
      return answer(asked, read);
    },
    delete: async (asked: string) => {
      sent.push(`DELETE ${asked}`);
    },
  } as unknown as Http;
  const { hook } = memoryLocation({ path });
  render(
    <QueryClientProvider client={new QueryClient({ defaultOptions: { queries: { retry: false } } })}>
      <HttpContext.Provider value={http}>
        <MantineProvider env="test">
          <Router hook={hook}>
            <AdminPage />
          </Router>
        </MantineProvider>
      </HttpContext.Provider>
    </QueryClientProvider>,
  );
  return sent;
}

it("lists gateways with state and figures, and says that a clock is wrong", async () => {
  show("/admin/gateways", { "/api/lock/overview": overview });
  const card = await screen.findByTestId("gateway-g_1");
  for (const text of ["Connected", "ORU^R01", "20 ms", "p99 36 ms", "−6.2 s", "wrong: check its time server"]) {
    expect(card.textContent).toContain(text);
  }
});

it("shows a new code once, with the command that asks for it, and tells when the gateway has come", async () => {
  const answers: Record<string, unknown> = { "/api/lock/overview": overview, "/api/gateways/codes": code };
  const sent = show("/admin/gateways", answers);
  await screen.findByTestId("gateways");
  fireEvent.click(screen.getByTestId("btn-enrol"));
  fireEvent.change(await screen.findByTestId("enrol-name"), { target: { value: " Two " } });
  // Meanwhile the code waits to be used.
  answers["/api/lock/overview"] = { ...overview, codes: [{ id: "ec_1", name: "Two" }] };
  fireEvent.click(screen.getByTestId("enrol-make"));
  await waitFor(() => expect(screen.getByTestId("enrol-code").textContent).toBe("ABCD-EFGH-JKLM"));
  expect(sent).toEqual(['POST /api/gateways/codes {"hospital":"north","name":"Two"}']);
  expect(screen.getByTestId("command").textContent).not.toContain("ABCD");
});

it("revokes only after it was confirmed", async () => {
  const log = { rows: [], next_before: null };
  const sent = show("/admin/gateways/g_1", { "/api/lock/overview": overview, "/api/lock/gateways/": log });
  fireEvent.click(await screen.findByTestId("btn-revoke"));
  const confirm = await screen.findByTestId("btn-revoke-confirm");
  expect(sent).toEqual([]);
  expect(document.body.textContent).toContain("2 messages for the hospital still wait");
  fireEvent.click(confirm);
  await waitFor(() => expect(sent).toEqual(["DELETE /api/gateways/g_1"]));
});

it("shows a refused crossing in words, and asks the log again with the filter", async () => {
  const row = { id: 9, sequence: 9, last: 9, kind: "ORU^R01", state: "refused", code: "wrong_patient", at_ms: 1 };
  show("/admin/gateways/g_1", {
    "/api/lock/overview": overview,
    "/api/lock/gateways/g_1/crossings?direction=out&outcome=not_ok": { rows: [], next_before: null },
    "/api/lock/gateways/g_1/crossings?direction=out": { rows: [row], next_before: null },
  });
  expect((await screen.findByTestId("log-crossings")).textContent).toContain("refused · another patient's");
  fireEvent.change(screen.getByTestId("filter-outcome"), { target: { value: "not_ok" } });
  await screen.findByText("Nothing in the log matches.");
});

it("tells who is no administrator", async () => {
  show("/admin/programs", {});
  await screen.findByText("This page is for administrators.");
});

it("asks for what each kind of program needs before it is sent", () => {
  const written = {
    id: "a b",
    name: " ",
    kind: "public",
    scopes: "",
    redirects: "x",
    launch: "",
    jwks: "",
    hospital: "n",
  } as const;
  expect(lackingOf(written)).toEqual(["id", "name", "scopes", "redirects"]);
  const app = { ...written, id: "app", name: "App", scopes: "openid  patient/*.rs", redirects: "https://a.example/\n" };
  expect(lackingOf(app)).toEqual([]);
  expect(registrationOf(app)).toEqual({
    id: "app",
    name: "App",
    kind: "public",
    scopes: "openid patient/*.rs",
    redirect_uris: ["https://a.example/"],
    launch_uri: "",
  });
  const backend = { ...app, kind: "backend", jwks: '{"keys":[{}]}' } as const;
  expect(lackingOf(backend)).toEqual(["scopes"]);
  expect(registrationOf({ ...backend, scopes: "system/*.rs" }).hospital).toBe("n");
});

it("figures are read at a glance", () => {
  expect([400, 12_400, 3_240_000, 400_000_000].map(durationText)).toEqual(["0.4 ms", "12 ms", "3.2 s", "7 min"]);
  expect([offsetText(1_500), offsetText(-1_500_000), offsetText(null)]).toEqual(["+1.5 ms", "−1.5 s", "–"]);
  expect([offsetText(-49), offsetText(49), offsetText(-50)]).toEqual(["0.0 ms", "0.0 ms", "−0.1 ms"]);
  expect([sizeText(12), sizeText(2_048), sizeText(5_000_000)]).toEqual(["12 B", "2.0 KiB", "4.8 MiB"]);
  expect(enrolCommand("https://hub.example", true)).toContain("--hub https://hub.example --ca consilium-ca.crt");
  const everything = { direction: "in", kind: "", outcome: "", fromMs: null, toMs: null } as const;
  expect(filterQuery({ ...everything, kind: "ORU^R01", fromMs: 5 }, 7)).toBe(
    "direction=in&kind=ORU%5ER01&from_ms=5&before=7",
  );
  const t = ((key: string) => key) as never;
  expect([codeText(t, "full"), codeText(t, "brand_new")]).toEqual(["admin.code.full", "brand_new"]);
});
