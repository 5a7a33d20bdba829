import { expect, it } from "vitest";
import { Refused } from "../server";
import { speak } from "../texts";
import { words } from "./states";

it("says in the reader's language that something is not there, whatever it is", () => {
  speak("vi");

  expect(words(new Refused("top_up_not_found", "There is no such top-up."))).toBe("Mục này không còn nữa.");
});
