import { describe, expect, it } from "vitest";
import { layout } from "./spans";

const LESSON = ["2026-11-26T10:00:00Z", "2026-11-26T11:30:00Z"] as const;
const seen = { intervals: [{ from: "2026-11-26T10:09:00Z", to: "2026-11-26T10:54:00Z", sources: [] }], attended_s: 2_700, required_s: 1_080, total_s: 5_400 };

describe("the picture of presence", () => {
  it("places each span by the clock, and what it adds up to by its length", () => {
    expect(layout(seen, ...LESSON)).toEqual({ spans: [{ x: 100, width: 500 }], attended: 500, required: 200 });
  });

  it("has no spans where it is not known when the lesson was", () => {
    expect(layout(seen, null, null)).toEqual({ spans: null, attended: 500, required: 200 });
  });

  it("stays inside its frame, whatever was measured", () => {
    const late = { ...seen, intervals: [{ from: "2026-11-26T09:00:00Z", to: "2026-11-26T12:00:00Z", sources: [] }], attended_s: 9_999 };

    expect(layout(late, ...LESSON)).toEqual({ spans: [{ x: 0, width: 1000 }], attended: 1000, required: 200 });
  });
});
