/** What the server refuses of accounts, in the reader's words. */
import { Refused } from "../server";
import { t } from "./texts";

export async function saying(work: Promise<void>): Promise<void> {
  try {
    await work;
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    const said = words(error.code);
    throw said === undefined ? error : new Refused("conflict", said, error.fields);
  }
}

function words(code: Refused["code"]): string | undefined {
  switch (code) {
    case "login_failed":
      return t().loginFailed;
    case "too_many_requests":
      return t().locked;
    case "account_blocked":
      return t().blocked;
    case "registration_refused":
      return t().refused;
    default:
      return undefined;
  }
}
