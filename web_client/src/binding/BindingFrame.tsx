/** The ECG of a screen with its binding above it; on a desk also the dialog to bind. */
import { type ReactNode, useState } from "react";
import { useStore } from "zustand";
import type { ConsultClient } from "../desk/consultClient";
import { useNow } from "../media/useNow";
import type { Consult } from "../protocol";
import { BindingBar } from "./BindingBar";
import { BindingDialog } from "./BindingDialog";
import styles from "./BindingFrame.module.css";

export interface BindingFrameProps {
  client: ConsultClient;
  consult: Consult;
  me: string;
  /** Whether anything of the present context may be shown. */
  isShown: boolean;
  size?: "desk" | "wall";
  children: ReactNode;
}

export function BindingFrame({ client, consult, me, isShown, size = "desk", children }: BindingFrameProps) {
  return (
    <div className={styles.frame}>
      {isShown && <Binding client={client} consult={consult} me={me} size={size} />}
      <div className={styles.below}>{children}</div>
    </div>
  );
}

/** Apart from the ECG: its clock must not make the trace render. */
function Binding({
  client,
  consult,
  me,
  size,
}: Omit<BindingFrameProps, "isShown" | "children"> & { size: "desk" | "wall" }) {
  const endings = useStore(client.store, ({ bindingEnds }) => bindingEnds);
  const offsetMs = useStore(client.store, ({ serverOffsetMs }) => serverOffsetMs);
  const [open, setOpen] = useState<{ readonly device: string | null } | null>(null);
  useNow(1_000);
  const nowMs = Date.now() + offsetMs;
  if (size === "wall") return <BindingBar consult={consult} me={me} endings={endings} nowMs={nowMs} size="wall" />;
  return (
    <>
      <BindingBar
        consult={consult}
        me={me}
        endings={endings}
        nowMs={nowMs}
        onManage={(device) => setOpen({ device })}
      />
      <BindingDialog
        consult={consult}
        me={me}
        endings={endings}
        nowMs={nowMs}
        opened={open !== null}
        device={open?.device ?? null}
        onClose={() => setOpen(null)}
        send={(command) => client.socket.command(command)}
      />
    </>
  );
}
