/** A wall display's page. */
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { createHttp } from "../common/http";
import { CrashBoundary } from "../desk/CrashBoundary";
import { AppProviders, applyColorScheme } from "../theme";
import { slotOf } from "../wall/api";
import { WallApp } from "../wall/WallApp";

applyColorScheme("dark");
document.documentElement.dataset.surface = "wall";

const root = document.getElementById("root");
if (root === null) throw new Error("wall.html has no #root");
createRoot(root).render(
  <StrictMode>
    <AppProviders forceColorScheme="dark" http={createHttp({ wallSlot: slotOf(window.location.search) })}>
      <CrashBoundary reloadsItself>
        <WallApp />
      </CrashBoundary>
    </AppProviders>
  </StrictMode>,
);
