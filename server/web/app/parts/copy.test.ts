// @vitest-environment happy-dom
import { beforeEach, describe, expect, it, vi } from "vitest";
import { speak } from "../texts";
import { copy } from "./copy";
import { toast } from "./toast";

vi.mock("./toast");

const clipboard = (written: object | undefined) => Object.defineProperty(navigator, "clipboard", { value: written, configurable: true });

beforeEach(() => {
  vi.mocked(toast).mockReset();
  speak("en");
  document.body.innerHTML = "<input value='the link'><code>the text</code>";
});

it("says that it copied once it has", async () => {
  const writeText = vi.fn(async () => undefined);
  clipboard({ writeText });

  await copy("the link", null);

  expect(writeText).toHaveBeenCalledWith("the link");
  expect(toast).toHaveBeenCalledWith("Copied");
});

describe.each([
  ["there is no clipboard", undefined],
  ["the browser refuses it", { writeText: () => Promise.reject(new DOMException("", "NotAllowedError")) }],
])("where %s", (_, given) => {
  it("selects the text and says what is left to do", async () => {
    clipboard(given);
    const field = document.querySelector("input") as HTMLInputElement;

    await copy("the link", field);
    expect([field.selectionStart, field.selectionEnd]).toEqual([0, "the link".length]);
    await copy("the text", document.querySelector("code"));

    expect(getSelection()?.toString()).toBe("the text");
    expect(toast).not.toHaveBeenCalledWith("Copied");
    expect(toast).toHaveBeenLastCalledWith("The browser did not copy it. It is selected: press Ctrl+C or hold it down.");
  });
});
