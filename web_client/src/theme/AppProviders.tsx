/** Everything a page's tree stands on: Mantine, languages, HTTP and the query cache. */
import "./mantine";
import "./variables.css";
import "./base.css";
import { localStorageColorSchemeManager, MantineProvider } from "@mantine/core";
import { QueryClientProvider } from "@tanstack/react-query";
import { type ReactNode, useState } from "react";
import { I18nextProvider } from "react-i18next";
import { createHttp, type Http, HttpContext } from "../common/http";
import { createQueryClient } from "../common/queries";
import { i18n } from "../i18n";
import { SCHEME_KEY } from "./colorScheme";
import { cssVariablesResolver, theme } from "./theme";

const schemes = localStorageColorSchemeManager({ key: SCHEME_KEY });

export interface AppProvidersProps {
  children: ReactNode;
  /** Walls are always dark. */
  forceColorScheme?: "light" | "dark";
  /** A wall's own helper, which names its slot in every request. */
  http?: Http;
}

export function AppProviders({ children, forceColorScheme, http }: AppProvidersProps) {
  const [ownHttp] = useState(() => http ?? createHttp());
  const [queries] = useState(createQueryClient);
  const forced = forceColorScheme === undefined ? {} : { forceColorScheme };
  return (
    <MantineProvider
      theme={theme}
      cssVariablesResolver={cssVariablesResolver}
      defaultColorScheme="auto"
      colorSchemeManager={schemes}
      {...forced}
    >
      <I18nextProvider i18n={i18n}>
        <HttpContext.Provider value={ownHttp}>
          <QueryClientProvider client={queries}>{children}</QueryClientProvider>
        </HttpContext.Provider>
      </I18nextProvider>
    </MantineProvider>
  );
}
