/** The lead's page and the line: a turn that does not get through, and who comes later. */
import { act, cleanup, fireEvent, render, screen, waitFor } from "@testing-library/react";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { setLanguage } from "../i18n";
import type { OpenWire, WireListener } from "../net/wire";
import type { Ack, AnyCommand, AnyEvent, Consult, View } from "../protocol";
import { openConsult } from "../store/consultStore";
import { AppProviders } from "../theme";
import { DeskRecord } from "./Clinical";
import type { ConsultClient } from "./consultClient";

const snapshot = (revision: number, view: View): Consult =>
  ({
    id: "c1",
    revision,
    media_epoch: 0,
    lead: "me",
    view,
    context_version: 1,
    context: {
      version: 1,
      opened_at_ms: 1,
      first_version: 1,
      opened_by: "me",
      patient: {
        id: "p1",
        name: "Shen",
        name_latin: "",
        sex: "female",
        birth_date: "1964-03-14",
        identifiers: [],
        test: true,
      },
    },
    participants: { me: { id: "me", name: "Chen", role: "doctor", connection: "connected" } },
    producers: {},
    highlights: {},
    page_freeze: null,
  }) as unknown as Consult;

/** A server whose line can be cut; a turn that reaches it is carried out. */
class Server {
  revision = 5;
  view: View = { page: "labs", item: "" };
  isUp = true;
  /** The answers to these are lost with the line. */
  mute = false;
  commands: AnyCommand[] = [];
  listener: WireListener | null = null;
  open: OpenWire = async (_, listener) => {
    if (!this.isUp) throw new Error("unreachable");
    this.listener = listener;
    return { command: (command) => this.answer(command), close: () => undefined };
  };

  async answer(command: AnyCommand): Promise<Ack> {
    if (!this.isUp) throw new Error("cut");
    this.commands.push(command);
    if (command.type === "join") {
      const joined = { you: "me", snapshot: snapshot(this.revision, this.view), router_rtp_capabilities: {} };
      return { ok: true, result: { ...joined, server_time_ms: Date.now() } };
    }
    if (command.type === "turn_page") {
      this.revision += 1;
      this.view = command.view;
      if (this.mute) throw new Error("cut");
      this.happen({ type: "page_turned", revision: this.revision, at_ms: 0, by: "me", view: command.view } as AnyEvent);
    }
    return { ok: true, result: {} };
  }

  happen(event: AnyEvent): void {
    this.listener?.event(event);
  }

  cut(): void {
    this.isUp = false;
    this.listener?.closed();
  }
}

let server: Server;
let client: ConsultClient;

beforeEach(async () => {
  await setLanguage("en");
  vi.stubGlobal("fetch", async () =>
    Response.json({ resourceType: "Bundle", entry: [] }, { headers: { "X-Context-Version": "1" } }),
  );
  server = new Server();
  client = { ...openConsult({ getToken: async () => "t", open: server.open }), media: null, close: () => undefined };
  client.socket.start();
  await waitFor(() => expect(client.store.getState().status.phase).toBe("connected"));
});

afterEach(() => {
  client.socket.close();
  cleanup();
  vi.unstubAllGlobals();
});

function Record() {
  const consult = client.store.getState().consult as Consult;
  const send = async (command: AnyCommand, onLost?: () => void): Promise<void> => {
    await client.socket.command(command).catch(() => onLost?.());
  };
  return (
    <AppProviders>
      <DeskRecord client={client} consult={consult} me="me" isShown inSync onCommand={send} />
    </AppProviders>
  );
}

/** Renders now and with each change of the store, as the desk does. */
function show(): void {
  const view = render(<Record />);
  client.store.subscribe(() => act(() => view.rerender(<Record />)));
}

const page = () => screen.getByTestId("record-page").dataset.page;
const turnTo = (name: string) => fireEvent.click(screen.getByTestId(`record-tab-${name}`));
const told = () => screen.queryByTestId("page-not-turned")?.textContent ?? "";
const scrolls = () => server.commands.filter(({ type }) => type === "scroll").length;

it("a turn while the line is down is said, is not made up for later, and both sides are on one page", async () => {
  show();
  expect(page()).toBe("labs");
  act(() => server.cut());
  turnTo("reports");
  await waitFor(() => expect(told()).toContain("There is no connection. You were all last on “Labs”"));
  expect(page()).toBe("labs");

  server.isUp = true;
  await waitFor(() => expect(told()).toContain("Everyone is on “Labs”"));
  expect([page(), server.view.page]).toEqual(["labs", "labs"]);
  expect(server.commands.some(({ type }) => type === "turn_page")).toBe(false);

  turnTo("reports");
  await waitFor(() => expect(page()).toBe("reports"));
  expect([told(), server.view.page]).toEqual(["", "reports"]);
});

it("a turn whose answer alone was lost is no lost turn", async () => {
  show();
  server.mute = true;
  turnTo("reports");
  await waitFor(() => expect(told()).toContain("Labs"));
  server.mute = false;
  act(() => server.cut());
  server.isUp = true;
  await waitFor(() => expect(page()).toBe("reports"));
  expect([told(), server.view.page]).toEqual(["", "reports"]);
});

it("whoever comes, or comes back, is told how far down the lead's page is, and nobody else again", async () => {
  show();
  await waitFor(() => expect(scrolls()).toBe(1));
  const next = () => {
    server.revision += 1;
    return { revision: server.revision, at_ms: 0 };
  };
  const bo = { id: "bo", name: "Bo", role: "guest", connection: "connected" };
  act(() => server.happen({ type: "participant_joined", ...next(), participant: bo } as unknown as AnyEvent));
  await waitFor(() => expect(scrolls()).toBe(2));
  act(() =>
    server.happen({ type: "context_confirmed", ...next(), participant: "bo", version: 1 } as unknown as AnyEvent),
  );
  expect(client.store.getState().consult?.participants.bo?.context_seen).toBe(1);
  act(() => server.cut());
  server.isUp = true;
  await waitFor(() => expect(client.store.getState().status.phase).toBe("connected"));
  await waitFor(() => expect(scrolls()).toBe(3));
});
