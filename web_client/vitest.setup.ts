/** What pages' tests wait for takes a moment; Testing Library's own limit is a second, which a busy machine may miss. */
import { expect } from "vitest";

if (expect.getState().testPath?.endsWith(".tsx")) {
  const { configure } = await import("@testing-library/react");
  configure({ asyncUtilTimeout: 30_000 });
}
