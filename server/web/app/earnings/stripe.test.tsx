// @vitest-environment happy-dom
import { beforeEach, describe, expect, it, vi } from "vitest";
import { call, Refused } from "../server";
import { me } from "../session";
import { press, show } from "../stage";
import { speak } from "../texts";
import type { Account } from "../wire";
import { AtStripe, ByStripe } from "./stripe";

vi.mock("../server", async (original) => ({ ...(await original<object>()), call: vi.fn() }));

const server = vi.mocked(call as (op: string, d: unknown) => Promise<unknown>);
const from = (region: string | null) => (me.value = { id: "thao", region } as Account);
const countries = () => document.querySelector("select") as HTMLSelectElement;

beforeEach(() => {
  server.mockReset();
  speak("en");
  from(null);
});

/** Show how far the account is, and return the page once it says this. */
async function drawn(text: string): Promise<string | null> {
  show(<AtStripe>the form</AtStripe>);
  await vi.waitFor(() => expect(document.body.textContent).toContain(text));
  return document.body.textContent;
}

describe("the country of the bank", () => {
  it.each([
    ["DE", "DE"],
    ["VN", "US"],
    [null, "US"],
  ])("is for who lives in %s at first %s", (region, country) => {
    from(region);

    show(<ByStripe close={() => undefined} />);

    expect(countries().value).toBe(country);
  });

  it("is named and sorted in the reader's language", () => {
    speak("vi");

    show(<ByStripe close={() => undefined} />);

    const names = [...countries().options].map(({ text }) => text);
    expect(names).toContain("Đức");
    expect(names).toEqual(names.toSorted((one, other) => one.localeCompare(other, "vi")));
  });

  it("goes with the tutor to Stripe as it was chosen", async () => {
    server.mockResolvedValue({ url: "https://stripe.example/onboarding" });
    const assign = vi.spyOn(location, "assign").mockImplementation(() => undefined);
    show(<ByStripe close={() => undefined} />);
    countries().value = "FR";
    countries().dispatchEvent(new Event("change", { bubbles: true }));

    await press("Go on at Stripe");

    await vi.waitFor(() => expect(assign).toHaveBeenCalledExactlyOnceWith("https://stripe.example/onboarding"));
    expect(server.mock.calls).toEqual([["payout_account.onboard", { country: "FR" }]]);
  });
});

describe("an account at Stripe", () => {
  const READY = { may_receive: true, may_pay_out: true, wanted: [] };

  it.each([
    ["Stripe pays out to you.", READY],
    ["It will want to know more before long:", { ...READY, wanted: ["identity.verification.document"] }],
  ])("can be withdrawn to: %s", async (text, account) => {
    server.mockResolvedValue(account);

    expect(await drawn(text)).toContain("the form");
  });

  it.each([
    ["your bank account", { ...READY, may_pay_out: false, wanted: ["external_account"] }],
    ["Stripe is checking what you told it.", { ...READY, may_receive: false }],
    ["Country of your bank", new Refused("no_payout_account", "Stripe has not heard of it")],
    ["Try again", new Refused("payments_unavailable", "Stripe is away")],
  ])("offers no form while Stripe would pay nothing out: %s", async (text, account) => {
    server.mockImplementation(async () => {
      if (account instanceof Refused) throw account;
      return account;
    });

    const said = await drawn(text);

    expect(said).not.toContain("the form");
    expect(said?.includes("press “Change it”")).toBe(text !== "Try again");
  });
});
