import { describe, expect, it } from "vitest";
import { answeredWithRed, RedundantSound, withFormat } from "./red";

const lines = (...all: string[]): string => all.map((line) => `${line}\r\n`).join("");

const VIDEO = lines("m=video 9 UDP/TLS/RTP/SAVPF 96", "a=mid:1", "a=rtpmap:96 VP8/90000");
const BROWSER_OFFER =
  lines("v=0", "m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9", "a=mid:0", "a=sendonly", "a=rtpmap:111 opus/48000/2") +
  lines("a=rtpmap:63 red/48000/2", "a=fmtp:63 111/111") +
  VIDEO;
const answer = (direction: string): string =>
  lines("v=0", "m=audio 7 UDP/TLS/RTP/SAVPF 111", "a=mid:0", `a=${direction}`, "a=rtpmap:111 opus/48000/2") + VIDEO;

describe("what is sent", () => {
  it("answers the browser's offer with RED first", () => {
    expect(answeredWithRed(answer("recvonly"), BROWSER_OFFER)).toBe(
      lines("v=0", "m=audio 7 UDP/TLS/RTP/SAVPF 63 111", "a=mid:0", "a=recvonly", "a=rtpmap:111 opus/48000/2") +
        lines("a=rtpmap:63 red/48000/2", "a=fmtp:63 111/111") +
        VIDEO,
    );
  });

  it.each([
    ["a section that is closed", answer("inactive"), BROWSER_OFFER],
    ["a browser without RED", answer("recvonly"), BROWSER_OFFER.replace(/a=\S+:63 .*\r\n/g, "")],
    ["RED of another codec", answer("recvonly"), BROWSER_OFFER.replace("111/111", "9/9")],
    ["another section's RED", answer("recvonly"), BROWSER_OFFER.replace("a=mid:0", "a=mid:2")],
  ])("leaves %s alone", (_, given, offer) => {
    expect(answeredWithRed(given, offer)).toBe(given);
  });
});

describe("what is received", () => {
  const offer =
    lines("m=audio 7 UDP/TLS/RTP/SAVPF 100 109", "a=mid:0", "a=sendonly", "a=rtpmap:100 opus/48000/2") +
    lines("a=rtpmap:109 red/48000/2");

  it("gets the format line, once", () => {
    expect(withFormat(VIDEO + offer)).toBe(`${VIDEO}${offer}a=fmtp:109 100/100\r\n`);
    expect(withFormat(withFormat(offer))).toBe(withFormat(offer));
  });

  it("is left alone without RED", () => {
    expect(withFormat(VIDEO + answer("sendonly"))).toBe(VIDEO + answer("sendonly"));
  });
});

describe("what the relay is told", () => {
  const parameters = { mid: "0", codecs: [{ mimeType: "audio/opus", payloadType: 111, clockRate: 48_000 }] };
  const connection = { remoteDescription: null as { sdp: string } | null, localDescription: { sdp: BROWSER_OFFER } };
  const transport = {
    handler: {
      _pc: {
        ...connection,
        async setRemoteDescription(this: typeof connection, { sdp }: { sdp: string }): Promise<void> {
          this.remoteDescription = { sdp };
        },
      },
    },
  };

  it("is what was negotiated, behind Opus", async () => {
    const red = RedundantSound.of(transport as never);
    expect(red.sending(parameters)).toBe(parameters);
    await transport.handler._pc.setRemoteDescription({ type: "answer", sdp: answer("recvonly") } as never);
    const [first, second, ...more] = red.sending(parameters).codecs;
    expect([first?.mimeType, second?.mimeType, second?.payloadType, more.length]).toEqual([
      "audio/opus",
      "audio/red",
      63,
      0,
    ]);
  });

  it("is nothing when the library has changed inside", () => {
    const red = RedundantSound.of({ handler: {} } as never);
    expect(red.sending(parameters)).toBe(parameters);
    const capabilities = { codecs: [] };
    expect(red.receiving(capabilities)).toBe(capabilities);
  });
});
