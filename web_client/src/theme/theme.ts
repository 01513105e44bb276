/**
 * Mantine's theme: the same palette as variables.css, given to its components.
 *
 * Shade 8 with autoContrast is what passes WCAG AA in light and dark; Mantine's
 * default shades do not.
 */
import { type CSSVariablesResolver, createTheme, type MantineColorsTuple } from "@mantine/core";

const petrol: MantineColorsTuple = [
  "#ecf6f8",
  "#d8ebef",
  "#b0d6de",
  "#84bfcc",
  "#5eacbd",
  "#459fb3",
  "#2f8ea4",
  "#1c7a90",
  "#0f6478",
  "#084c5d",
];

const gray: MantineColorsTuple = [
  "#f7f9fa",
  "#f2f5f6",
  "#e6ecef",
  "#d7e0e4",
  "#b4c2c9",
  "#6b7f89",
  "#4a5e68",
  "#40535c",
  "#2b3c44",
  "#14262e",
];

const dark: MantineColorsTuple = [
  "#e6eef1",
  "#c5d2d8",
  "#a7b8c0",
  "#8ea1aa",
  "#3a4c55",
  "#26343b",
  "#1b272d",
  "#151f24",
  "#0e1518",
  "#090e10",
];

export const theme = createTheme({
  primaryColor: "petrol",
  primaryShade: { light: 8, dark: 8 },
  autoContrast: true,
  colors: { petrol, gray, dark },
  fontFamily: "var(--font-text)",
  fontFamilyMonospace: "var(--font-mono)",
  defaultRadius: "md",
  radius: { xs: "4px", sm: "6px", md: "8px", lg: "12px", xl: "18px" },
  fontSizes: { xs: "0.8125rem", sm: "0.875rem", md: "1rem", lg: "1.125rem", xl: "1.375rem" },
  lineHeights: { xs: "1.4", sm: "1.45", md: "1.5", lg: "1.5", xl: "1.4" },
  headings: {
    fontWeight: "650",
    sizes: {
      h1: { fontSize: "1.75rem", lineHeight: "1.25" },
      h2: { fontSize: "1.25rem", lineHeight: "1.3" },
      h3: { fontSize: "1.0625rem", lineHeight: "1.35" },
    },
  },
  respectReducedMotion: true,
  components: {
    // The placeholder is a focusable child that a menu may not have (axe: aria-required-children).
    Menu: { defaultProps: { withInitialFocusPlaceholder: false } },
    // Names of programs and hospitals may take two lines.
    Modal: { styles: { title: { lineHeight: 1.35, overflowWrap: "anywhere" } } },
  },
});

/** Mantine's semantic variables point at ours, so both kinds of component change scheme together. */
export const cssVariablesResolver: CSSVariablesResolver = () => {
  const shared = {
    "--mantine-color-body": "var(--c-surface)",
    "--mantine-color-text": "var(--c-text)",
    "--mantine-color-dimmed": "var(--c-soft)",
    "--mantine-color-anchor": "var(--c-accent)",
    "--mantine-color-error": "var(--c-danger)",
    "--mantine-color-default-border": "var(--c-line-strong)",
  };
  return {
    variables: {},
    light: shared,
    dark: { ...shared, "--mantine-primary-color-light-color": "var(--c-accent)" },
  };
};
