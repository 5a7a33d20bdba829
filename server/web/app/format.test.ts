import { beforeEach, describe, expect, it } from "vitest";
import { atWallTime, clock, fromNow, instant, languageName, money, typed, wallTime, zone } from "./format";
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

describe("what is typed", () => {
  it("is money with a point or a comma, and nothing else is", () => {
    expect(typed("12.50")).toEqual({ amount: 1250, currency: "USD" });
    expect(typed(" 12,5 ")).toEqual({ amount: 1250, currency: "USD" });
    expect(typed("10", "JPY")).toEqual({ amount: 10, currency: "JPY" });
    for (const none of ["", "abc", "-1", "1.234", "1e3", "1.000,00"]) expect(typed(none)).toBeNull();
  });

  it("is a time by the viewer's clocks, also on the days when they are changed", () => {
    expect(atWallTime("2026-11-26T15:30")).toBe("2026-11-26T08:30:00.000Z");

    zone.value = "Europe/Berlin";
    for (const wall of ["2026-03-29T01:30", "2026-03-29T03:30", "2026-10-25T01:30", "2026-10-25T04:00"]) {
      expect(wallTime(atWallTime(wall))).toBe(wall);
    }
  });
});

describe("clock", () => {
  it("shows hours only where there are some", () => {
    expect([clock(1080), clock(4800), clock(59)]).toEqual(["18:00", "1:20:00", "0:59"]);
  });
});
