export { AppProviders, type AppProvidersProps } from "./AppProviders";
export { applyColorScheme, type SchemeChoice } from "./colorScheme";
export { theme } from "./theme";
