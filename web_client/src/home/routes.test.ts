/** Where a link may lead, and what becomes of an invitation's token. */
import { describe, expect, it } from "vitest";
import { loginPath, safeNext, takeGuestToken } from "./routes";

describe("safeNext", () => {
  it.each(["/", "/station?code=ABC234", "/consult/c-1"])("keeps our own path %s", (path) => {
    expect(safeNext(path)).toBe(path);
  });

  it.each([null, "", "https://evil", "//evil", "/\\evil", "javascript:alert(1)", "/login?next=/", "/a\nb", "/a b"])(
    "leads %j to the start",
    (path) => {
      expect(safeNext(path)).toBe("/");
    },
  );
});

describe("loginPath", () => {
  it("carries where to go on and why", () => {
    expect(loginPath("/")).toBe("/login");
    expect(loginPath("/station?code=ABC234", "expired")).toBe("/login?next=%2Fstation%3Fcode%3DABC234&why=expired");
  });
});

describe("takeGuestToken", () => {
  const page = (hash: string) => {
    const replaced: string[] = [];
    const history = { replaceState: (_: unknown, __: string, url: string) => replaced.push(url) };
    const location = { hash, pathname: "/join", search: "" };
    const token = takeGuestToken(location as Location, history as unknown as History);
    return { token, replaced };
  };

  it("takes the token out of the address at once", () => {
    expect(page("#abc-DEF_1.2~3")).toEqual({ token: "abc-DEF_1.2~3", replaced: ["/join"] });
  });

  it("clears the address of what is no token too", () => {
    expect(page("#<script>")).toEqual({ token: "", replaced: ["/join"] });
    expect(page("")).toEqual({ token: "", replaced: [] });
  });
});
