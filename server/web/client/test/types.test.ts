/** Generated types plug in: the compiler knows operations, answers and events by their names. */
import { expectTypeOf, test } from "vitest";
import type { Client } from "../src/index.ts";

type Ops = {
  "wallet.get": { d: Record<string, never>; ok: { balance: number } };
  "chat.send": { d: { text: string }; ok: { message: { id: string } } };
};
type Events = { "wallet.updated": { balance: number }; typing: { user_id: string } };

test("operations and events have the types of their names", () => {
  const check = (client: Client<Ops, Events>) => {
    expectTypeOf(client.call("wallet.get", {})).resolves.toEqualTypeOf<{ balance: number }>();
    expectTypeOf(client.send("chat.send", { text: "hi" })).resolves.toEqualTypeOf<{ message: { id: string } }>();
    // @ts-expect-error there is no such operation
    void client.call("wallet.got", {});
    // @ts-expect-error a text is a string
    void client.send("chat.send", { text: 7 });
    client.on("wallet.updated", (event) => expectTypeOf(event.d).toEqualTypeOf<{ balance: number }>());
    client.subscribe("room:r", {
      load: () => client.call("wallet.get", {}),
      onSnapshot: (snapshot) => expectTypeOf(snapshot).toEqualTypeOf<{ balance: number }>(),
      onEvent: (event) => {
        if (event.ev === "typing") expectTypeOf(event.d).toEqualTypeOf<{ user_id: string }>();
      },
    });
  };
  expectTypeOf(check).toBeFunction();
});
