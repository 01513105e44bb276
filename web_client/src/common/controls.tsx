/** Small controls of every page's head: language, appearance, time. */
import { ActionIcon, Button, Menu, useMantineColorScheme } from "@mantine/core";
import { Languages, Monitor, Moon, Sun } from "lucide-react";
import { useEffect, useState } from "react";
import { useTranslation } from "react-i18next";
import { setLanguage } from "../i18n";
import type { SchemeChoice } from "../theme/colorScheme";
import styles from "./controls.module.css";

/** One press: the sentence on it is in the language it leads to. */
export function LanguageSwitch() {
  const { t, i18n } = useTranslation();
  const target = i18n.language === "zh-CN" ? "en" : "zh-CN";
  return (
    <Button
      variant="subtle"
      size="compact-md"
      className={styles.language ?? ""}
      leftSection={<Languages size={18} aria-hidden="true" />}
      aria-label={t("common.languageSwitchTo")}
      lang={target}
      data-testid="btn-language"
      onClick={() => void setLanguage(target)}
    >
      {target === "en" ? "English" : "中文"}
    </Button>
  );
}

const SCHEMES = [
  { value: "light", label: "common.schemeLight", icon: Sun },
  { value: "dark", label: "common.schemeDark", icon: Moon },
  { value: "auto", label: "common.schemeAuto", icon: Monitor },
] as const satisfies readonly { value: SchemeChoice; label: string; icon: unknown }[];

export function ColorSchemeSwitch() {
  const { t } = useTranslation();
  const { colorScheme, setColorScheme } = useMantineColorScheme();
  const Current = SCHEMES.find((scheme) => scheme.value === colorScheme)?.icon ?? Monitor;
  return (
    <Menu position="bottom-end" withinPortal={false}>
      <Menu.Target>
        <ActionIcon variant="subtle" size="lg" aria-label={t("common.colorScheme")} data-testid="btn-color-scheme">
          <Current size={19} aria-hidden="true" />
        </ActionIcon>
      </Menu.Target>
      <Menu.Dropdown>
        {SCHEMES.map(({ value, label, icon: Icon }) => (
          <Menu.Item
            key={value}
            leftSection={<Icon size={16} aria-hidden="true" />}
            aria-current={value === colorScheme}
            onClick={() => setColorScheme(value)}
          >
            {t(label)}
          </Menu.Item>
        ))}
      </Menu.Dropdown>
    </Menu>
  );
}

/** Local time to the minute; seconds where people compare it with a trace. */
export function Clock({ seconds = false }: { seconds?: boolean }) {
  const { t } = useTranslation();
  const [now, setNow] = useState(() => new Date());
  useEffect(() => {
    const timer = setInterval(() => setNow(new Date()), 1000);
    return () => clearInterval(timer);
  }, []);
  const two = (value: number): string => String(value).padStart(2, "0");
  const text = `${two(now.getHours())}:${two(now.getMinutes())}${seconds ? `:${two(now.getSeconds())}` : ""}`;
  return (
    <time className={styles.clock} dateTime={text} title={t("common.clockLabel")}>
      {text}
    </time>
  );
}
