import { expect, test } from "vitest";
import { pathIn } from "./link";

const HERE = "https://talk.example";

test.each([
  ["https://talk.example/t/k3Jx9", "/t/k3Jx9"],
  [" https://talk.example/courses/7?ref=an ", "/courses/7?ref=an"],
  ["k3Jx9", "/t/k3Jx9"],
])("%s leads to %s", (text, path) => expect(pathIn(text, HERE)).toBe(path));

test.each(["https://elsewhere.example/t/k3Jx9", "http://talk.example/t/k3Jx9", "javascript:alert(1)", "//elsewhere.example", "a walk in the park", ""])(
  "%s leads nowhere",
  (text) => expect(pathIn(text, HERE)).toBeNull(),
);
