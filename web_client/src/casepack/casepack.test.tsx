import { MantineProvider } from "@mantine/core";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { act, cleanup, fireEvent, render, screen, waitFor } from "@testing-library/react";
import type { ReactNode } from "react";
import { afterEach, expect, it } from "vitest";
import type { ConsultCard, Person } from "../common/api";
import { ApiError, type Http, HttpContext } from "../common/http";
import { i18n, setLanguage } from "../i18n";
import { readDraft, readOverview } from "./api";
import CasePackPage from "./CasePackPage";
import { HomeAsks } from "./HomeAsks";
import { FindingWords } from "./PackContent";
import { ConsultPacks } from "./PackLine";
import { Prepare } from "./Prepare";
import { dateText, fhirTime, findingText, gaps, localTime, trendText } from "./words";

afterEach(cleanup);

const finding = {
  part: "echo",
  en: "Echo",
  zh: "超声",
  section: "imaging",
  need: "needed",
  state: "missing",
  why: "none",
};
const line = { section: "labs", ref: "Observation/k1", title: "Potassium", value: "4.1", unit: "mmol/L", trend: [] };
const draft = {
  specialty: "cardiology",
  request: { reason: "Chest pain", purpose: "PCI?", summary: "Since 06:00", speciality: "Cardiology", title: "" },
  lacking: [],
  lines: [line],
  findings: [finding],
  content_hash: "ab".repeat(32),
  left_out: [],
  asks: [],
  sent: null,
};
const ask = {
  id: "ask-1",
  consult: "c1",
  consult_title: "Chest pain",
  patient: "p1",
  part: "echo",
  en: "Echo",
  zh: "超声",
  status: "asked",
  by: "Chen",
  by_hospital: "Hub",
  asked_at_ms: 0,
};
const pack = { consult: "c1", patient: "p1", version: 2, hospital: "County", sent_at_ms: 0, missing: [finding] };
const overview = { packs: [pack], asks: [ask], specialties: [{ key: "cardiology", en: "Cardiology", zh: "心内科" }] };
const patient = {
  id: "p1",
  name: "张三",
  name_latin: "",
  sex: "male",
  birth_date: "1950-01-01",
  identifiers: [
    { label: "MRN", value: "T-1" },
    { label: "ID", value: "X9" },
  ],
  test: true,
};
const consult = { id: "c1", title: "Chest pain", patients: [patient] } as unknown as ConsultCard;

/** A server that answers by method and path, and remembers what it was sent. */
function server(answers: Readonly<Record<string, unknown>>) {
  const sent: { path: string; body: unknown }[] = [];
  const answer = async <T,>(path: string, read: (body: unknown) => T): Promise<T> => {
    if (!(path in answers)) throw new ApiError(403, "not_allowed", "No.", "不可以。");
    return read(answers[path]);
  };
  const http = {
    get: answer,
    post: (path: string, body: unknown, read: (body: unknown) => unknown) => {
      sent.push({ path, body });
      return answer(path, read);
    },
  } as unknown as Http;
  return { http, sent };
}

function show(http: Http, children: ReactNode): void {
  const queries = new QueryClient({ defaultOptions: { queries: { retry: false } } });
  render(
    <QueryClientProvider client={queries}>
      <HttpContext.Provider value={http}>
        <MantineProvider>{children}</MantineProvider>
      </HttpContext.Provider>
    </QueryClientProvider>,
  );
}

it("names what is missing beside the consult, as a plain list", async () => {
  show(server({ "/api/casepack": overview }).http, <ConsultPacks consult="c1" patients={[patient]} />);
  const missing = await screen.findByTestId("casepack-missing");
  expect(missing.textContent).toContain("Echo: not in the record");
});

it("(G11) shows nothing of packs to somebody who is refused", async () => {
  const { http } = server({});
  show(http, <ConsultPacks consult="c1" patients={[patient]} />);
  await new Promise((done) => setTimeout(done, 0));
  expect(screen.queryByTestId("casepacks-c1")).toBeNull();
});

it("a state that is not understood counts as missing", () => {
  const [read] = readDraft({ findings: [{ ...finding, state: "fine" }] }).findings;
  expect(read?.state).toBe("missing");
});

it("puts what is needed before what would be there if known, and leaves out what is present", () => {
  const { missing } = readOverview({
    packs: [
      {
        missing: [
          { ...finding, part: "a", need: "if_known" },
          { ...finding, part: "b", state: "present" },
          { ...finding, part: "c", state: "stale" },
        ],
      },
    ],
  }).packs[0] ?? { missing: [] };
  expect(gaps(missing).map(({ part }) => part)).toEqual(["c", "a"]);
});

it("times are sent with this browser's offset and come back as they were typed", () => {
  expect(fhirTime("2026-11-22T08:05", -480)).toBe("2026-11-22T08:05:00+08:00");
  expect(fhirTime("2026-11-22T08:05", 210)).toBe("2026-11-22T08:05:00-03:30");
  expect(localTime(fhirTime("2026-11-22T08:05"))).toBe("2026-11-22T08:05");
  expect(fhirTime("")).toBe("");
});

it("a day that was written without a time stays that day; what is over says so", async () => {
  expect(dateText({ atMs: Date.UTC(2026, 10, 21), isDay: true })).toBe("2026-11-21");
  const past = { ...line, section: "medication", title: "Enoxaparin", status: "completed" };
  const { http } = server({ "/api/consults/c1/casepack/p1/draft": { ...draft, lines: [past] } });
  show(http, <Prepare consult="c1" patient="p1" partner="County" specialties={[]} maySend={false} />);
  expect((await screen.findByTestId("casepack-line-Observation/k1")).textContent).toContain("Enoxaparin · completed");
});

it("sends only what was put together last: after a change the pack is updated first", async () => {
  const base = "/api/consults/c1/casepack/p1";
  const { http, sent } = server({ [`${base}/draft`]: draft, [`${base}/send`]: {}, "/api/casepack": overview });
  show(http, <Prepare consult="c1" patient="p1" partner="County" specialties={[]} maySend={true} />);
  const button = async () => (await screen.findByTestId("casepack-send")) as HTMLButtonElement;
  expect((await button()).disabled).toBe(false);
  fireEvent.click(screen.getByLabelText("In the pack: Potassium"));
  expect((await button()).disabled).toBe(true);
  fireEvent.click(screen.getByLabelText("In the pack: Potassium"));
  fireEvent.click(await button());
  await waitFor(() => expect(sent.map(({ path }) => path)).toEqual([`${base}/send`]));
  expect(sent[0]?.body).toEqual({ content_hash: draft.content_hash });
});

it("asks for a missing part in one click and names who asked", async () => {
  const base = "/api/consults/c1/casepack/p1";
  const { http, sent } = server({ [`${base}/draft`]: { ...draft, asks: [] }, [`${base}/asks`]: { ask, came: [] } });
  show(http, <Prepare consult="c1" patient="p1" partner="County" specialties={[]} maySend={false} />);
  fireEvent.click(await screen.findByTestId("casepack-ask-echo"));
  await waitFor(() =>
    expect(sent[0]).toEqual({ path: `${base}/asks`, body: { specialty: "cardiology", part: "echo" } }),
  );
  expect(screen.queryByTestId("casepack-send")).toBeNull();
});

it("(W18) offers an ask to its hospital only beside the patient's identity; a decline needs a reason (C26)", async () => {
  const path = "/api/consults/c1/casepack-asks/ask-1/decline";
  const { http, sent } = server({ "/api/casepack": overview, [path]: {} });
  show(http, <HomeAsks consults={[consult]} />);
  const shown = await screen.findByTestId("casepack-ask-echo");
  expect(shown.textContent).toContain("T-1");
  fireEvent.click(screen.getByText("Decline"));
  const submit = screen.getByText("Decline with this reason").closest("button") as HTMLButtonElement;
  expect(submit.disabled).toBe(true);
  fireEvent.change(screen.getByLabelText(/^Reason/), { target: { value: "not done here" } });
  fireEvent.click(submit);
  await waitFor(() => expect(sent).toEqual([{ path, body: { reason: "not done here" } }]));
});

it("(W18) shows no ask of a patient whose identity is not known to the page", async () => {
  show(server({ "/api/casepack": overview }).http, <HomeAsks consults={[]} />);
  await screen.findByTestId("casepack-asks");
  expect(screen.queryByTestId("casepack-ask-echo")).toBeNull();
});

const sentPath = "/api/consults/c1/casepack/p1";
const sent = {
  version: 2,
  newest: 2,
  sha256: "cd".repeat(32),
  specialty: "cardiology",
  by: "Zhou",
  hospital: "County",
  request: draft.request,
  lines: [{ ...line, since: "withdrawn" }],
  findings: [finding],
  asks: [],
};
const scan = { ...line, ref: "DocumentReference/d1", title: "Echo report", attachments: [{ binary: "b1", title: "" }] };

function readPack(asks: readonly unknown[]) {
  const card = { id: "c1", title: "Chest pain", partner: "County", patients: [patient], status: "scheduled" };
  const made = server({
    "/api/consults/c1": card,
    "/api/casepack": { ...overview, packs: [{ ...pack, asked: ["echo"] }] },
    [`${sentPath}?v=2`]: { ...sent, asks },
    [`${sentPath}/asks`]: { ask, came: [] },
  });
  const person = { id: "d1", role: "doctor" } as unknown as Person;
  show(made.http, <CasePackPage consultId="c1" person={person} />);
  return made;
}

it("the reader of a sent pack sees what is missing and asks for it in one click", async () => {
  const { sent: posted } = readPack([]);
  const button = await screen.findByTestId("casepack-ask-echo");
  expect(button.textContent).toContain("Ask County");
  fireEvent.click(button);
  await waitFor(() =>
    expect(posted).toEqual([{ path: `${sentPath}/asks`, body: { specialty: "cardiology", part: "echo" } }]),
  );
});

it("an ask that waits says for whom, and cannot be made twice; one that reaches nobody says so", async () => {
  readPack([{ ...ask, hospital: "County", lock: "not_fresh", reaches: 0 }]);
  const asked = await screen.findByTestId("casepack-asked-echo");
  expect(asked.textContent).toContain("not recent or not final");
  expect(asked.textContent).toContain("nobody of County");
  expect(screen.queryByTestId("casepack-ask-echo")).toBeNull();
});

it("an ask whose gateway was away is put to it again", async () => {
  readPack([{ ...ask, lock: "unavailable", reaches: 1 }]);
  expect((await screen.findByTestId("casepack-ask-echo")).textContent).toContain("Try the gateway again");
});

it("what was answered stands beside what was sent, and what was taken back says so", async () => {
  readPack([{ ...ask, status: "answered", closed_at_ms: 5, came: [scan] }]);
  const answers = await screen.findByTestId("casepack-answers");
  expect(answers.querySelector("a")?.getAttribute("href")).toBe(`${sentPath}/binary/b1?v=2`);
  expect(screen.getByTestId("casepack-line-Observation/k1").textContent).toContain("do not use");
});

it("a former value in another unit says its unit", () => {
  const former = { value: "90", unit: "mg/dL", flag: "", atMs: null, isDay: false };
  expect(trendText(former, "mmol/L")).toBe("90 mg/dL");
  expect(trendText(former, "mg/dL")).toBe("90");
});

it("a finding says once that it is there, and in Chinese with Chinese signs", async () => {
  const [found, old] = readDraft({
    findings: [
      { ...finding, state: "present", why: "found" },
      { ...finding, state: "stale", why: "too_old", at_ms: 0 },
    ],
  }).findings;
  if (found === undefined || old === undefined) throw new Error("two were read");
  const { container } = render(<FindingWords finding={old} />);
  expect([findingText(i18n.t, found), container.textContent]).toEqual(["Echo", `Echo: too old (${dateText(old)})`]);
  await act(() => setLanguage("zh-CN"));
  expect(container.textContent).toBe(`超声：时间过久（${dateText(old)}）`);
  await act(() => setLanguage("en"));
});
