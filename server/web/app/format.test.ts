import { beforeEach, describe, expect, it } from "vitest";
import { fromNow, instant, languageName, money, zone } from "./format";
import { language, plural } from "./texts";

beforeEach(() => {
  language.value = "en";
  zone.value = "Asia/Ho_Chi_Minh";
});

const plain = (text: string) => text.replace(/\s/g, " ");

describe("money", () => {
  it("has the decimals of its currency", () => {
    expect(money({ amount: 1250, currency: "USD" })).toBe("$12.50");
    expect(money({ amount: 1250, currency: "JPY" })).toBe("¥1,250");
  });

  it("is written as the reader's language does", () => {
    language.value = "vi";

    expect(plain(money({ amount: 125_000, currency: "VND" }))).toBe("125.000 ₫");
  });
});

describe("time", () => {
  it("is the viewer's, and names the zone", () => {
    expect(plain(instant("2026-11-26T08:30:00Z"))).toMatch(/Thu.*26.*3:30 PM GMT\+7/);

    zone.value = "UTC";

    expect(plain(instant("2026-11-26T08:30:00Z"))).toMatch(/8:30 AM UTC/);
  });

  it("is told from now in whole units", () => {
    const now = Date.parse("2026-11-26T08:30:00Z");

    expect(fromNow("2026-11-26T08:29:30Z", now)).toBe("this minute");
    expect(fromNow("2026-11-26T08:25:00Z", now)).toBe("5 minutes ago");
    expect(fromNow("2026-11-26T10:45:00Z", now)).toBe("in 2 hours");
  });
});

describe("words", () => {
  it("count as the language does", () => {
    expect(plural(1, { one: "1 seat", other: "many" })).toBe("1 seat");
    expect(plural(2, { one: "1 seat", other: "2 seats" })).toBe("2 seats");
  });

  it("name languages, and show what is no code as it is", () => {
    expect(languageName("vi")).toBe("Vietnamese");
    expect(languageName("our own")).toBe("Our own");
  });
});
