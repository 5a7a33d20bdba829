import { keys } from "../parts/keys";
import { type Answer, type Asked, call, codeOf } from "../server";

/**
 * One order of money, however often its button is pressed: what nobody knows the end of is asked for again as it was. A
 * card that was declined is tried anew at the next press.
 */
export function orders(): (asked: Asked<"top_up.start">) => Promise<Answer<"top_up.start">> {
  const keyOf = keys();
  let declines = 0;
  return async (asked) => {
    try {
      return await call("top_up.start", asked, { key: keyOf(asked, declines) });
    } catch (error) {
      if (codeOf(error) === "card_declined") declines += 1;
      throw error;
    }
  };
}
