/** Both languages say everything: the same keys, the same blanks to fill, nothing left empty. */
import { describe, expect, it } from "vitest";
import { WORDS } from "../waveform/words";
import { en, localized, setLanguage, zh } from ".";

type Tree = { readonly [key: string]: string | Tree };

function sentences(tree: Tree, prefix = ""): Map<string, string> {
  const all = new Map<string, string>();
  for (const [key, value] of Object.entries(tree)) {
    if (typeof value === "string") all.set(prefix + key, value);
    else for (const [inner, text] of sentences(value, `${prefix}${key}.`)) all.set(inner, text);
  }
  return all;
}

const blanks = (text: string): string[] => [...text.matchAll(/\{\{(\w+)\}\}/g)].map((match) => match[1] ?? "").sort();

/** Counted sentences may leave the number out in one form ("Nobody", "one"). */
const isCounted = (key: string): boolean => /_(zero|one|other)$/.test(key);

const [english, chinese] = [sentences(en), sentences(zh)];

describe("translations", () => {
  it("have the same keys", () => {
    expect([...chinese.keys()].sort()).toEqual([...english.keys()].sort());
  });

  it("leave no sentence empty", () => {
    const empty = [...english, ...chinese].filter(([, text]) => text.trim() === "");
    expect(empty).toEqual([]);
  });

  it("fill the same blanks", () => {
    const different = [...english.keys()].filter(
      (key) => !isCounted(key) && blanks(english.get(key) ?? "").join() !== blanks(chinese.get(key) ?? "").join(),
    );
    expect(different).toEqual([]);
  });

  it("are not the English text left in the Chinese part", () => {
    const untranslated = [...english].filter(
      ([key, text]) => chinese.get(key) === text && /[a-z]{3}/.test(text.replace(/\{\{\w+\}\}/g, "")),
    );
    // The product's name is a name.
    expect(untranslated.map(([key]) => key)).toEqual(["common.product"]);
  });
});

/** Words that mislead a Chinese ward, or are programmers' own, with what each would be read as. */
const MISREAD: Readonly<Record<string, string>> = {
  上下文: "a programmer's context: the number that screens are compared by is 同步号",
  陈旧: "an old infarction (陈旧性心肌梗死), beside an ECG that is merely late",
  首诊: "a first visit, which this system may not offer (C1)",
  出院方向: "a discharge",
  入院方向: "an admission",
  转诊单: "a referral to another hospital; a consult has a 会诊申请单",
  主导: "a second word for 主讲",
  协作医院: "a second word for 合作医院",
};

describe("Chinese", () => {
  it.each(Object.entries(MISREAD))("says %s nowhere: it reads as %s", (word) => {
    const painted = sentences(JSON.parse(JSON.stringify(WORDS.zh)) as Tree, "painted.");

    const found = [...chinese, ...painted].filter(([, text]) => text.includes(word));

    expect(found).toEqual([]);
  });
});

describe("localized", () => {
  it("picks the server's sentence in the page's language, and remembers the language", async () => {
    const refusal = { en: "Please sign in.", zh: "请先登录。" };

    await setLanguage("zh-CN");
    expect(localized(refusal)).toBe("请先登录。");
    expect(document.documentElement.lang).toBe("zh-CN");
    expect(window.localStorage.getItem("consilium.language")).toBe("zh-CN");

    await setLanguage("en");
    expect(localized(refusal)).toBe("Please sign in.");
  });
});
