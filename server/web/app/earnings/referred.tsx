/** Who came by a tutor's links, and what each of them brought. */
import { day, money } from "../format";
import { More } from "../parts/more";
import { usePages } from "../parts/pages";
import { Failure, Loading } from "../parts/states";
import { call } from "../server";
import { t } from "./texts";

export function People() {
  const { items, error, reload, more } = usePages((cursor: string | null) => call("referral.list", { cursor, limit: 20 }), []);
  if (items === undefined) return error === undefined ? <Loading heights={["4rem"]} /> : <Failure error={error} again={reload} />;
  return (
    <>
      <h3 id="referred">{t().referred}</h3>
      {items.length === 0 ? (
        <p class="faint">{t().nobodyCame}</p>
      ) : (
        <ul class="lines-of" aria-labelledby="referred">
          {items.map((person) => (
            <li key={`${person.registered_at} ${person.name}`}>
              <div class="about">
                <strong>{person.name}</strong>
                <span class="faint">
                  <time dateTime={person.registered_at}>{day(person.registered_at)}</time> · {person.course_title ?? t().ownLink} · {t().soldTo(money(person.brought.sold), money(person.brought.held))}
                </span>
              </div>
              <span class="amount figures">{money(person.brought.earned)}</span>
            </li>
          ))}
        </ul>
      )}
      <More more={more} />
    </>
  );
}
