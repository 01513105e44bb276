/** The app page: sign-in, my consults, stations, a guest's way in. */
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "../home/App";
import { takeGuestToken } from "../home/routes";
import { AppProviders, applyColorScheme } from "../theme";

// Before anything renders or fails: the token must not stay in the address bar.
const guestToken = window.location.pathname === "/join" ? takeGuestToken(window.location, window.history) : "";

applyColorScheme();

const root = document.getElementById("root");
if (root === null) throw new Error("no #root");
createRoot(root).render(
  <StrictMode>
    <AppProviders>
      <App guestToken={guestToken} />
    </AppProviders>
  </StrictMode>,
);
