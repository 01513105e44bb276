/** The consult page. */
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { CrashBoundary } from "../desk/CrashBoundary";
import { DeskApp } from "../desk/DeskApp";
import { AppProviders, applyColorScheme } from "../theme";

applyColorScheme();

const root = document.getElementById("root");
if (root === null) throw new Error("consult.html has no #root");
createRoot(root).render(
  <StrictMode>
    <AppProviders>
      <CrashBoundary>
        <DeskApp />
      </CrashBoundary>
    </AppProviders>
  </StrictMode>,
);
