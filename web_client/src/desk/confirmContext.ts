/** Tell the others that this page shows a context version; said again until it was heard or is no longer true (W19). */
import type { ConsultClient } from "./consultClient";

const AGAIN_MS = 1_000;

export async function confirmContext(client: ConsultClient, version: number): Promise<void> {
  const isStillTrue = (): boolean => {
    const { consult, status } = client.store.getState();
    return status.phase === "connected" && consult?.context?.version === version;
  };
  while (isStillTrue()) {
    try {
      await client.socket.command({ type: "confirm_context", version });
      return;
    } catch {
      // Refused or unanswered: whether it is still true decides whether it is said again.
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
    }
  }
}
