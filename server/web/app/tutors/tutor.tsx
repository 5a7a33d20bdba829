/** A tutor as everybody sees them: who, what they teach, what they offer, and the way to a lesson. */
import { useState } from "preact/hooks";
import { Ask } from "../bookings/ask";
import type { PageProperties } from "../feature";
import { Offers } from "../packages/offered";
import { areThere, useLoaded } from "../parts/loaded";
import { Missing, Pending } from "../parts/states";
import { Title } from "../parts/title";
import { call, codeOf } from "../server";
import type { TutorView } from "../wire";
import { Facts } from "./said";
import { t } from "./texts";

const UNKNOWN = new Set(["not_found", "bad_request"]);

export default function Tutor({ params: { id = "" } }: PageProperties) {
  const tutor = useLoaded(() => call("tutor.get", { tutor_id: id }), [id]);
  const offers = useLoaded(async () => (await call("package_option.list", { tutor_id: id })).items.filter(({ is_hidden }) => !is_hidden), [id]);
  const { value, error, reload } = tutor;
  if (value === undefined && UNKNOWN.has(codeOf(error))) return <Missing />;
  // Together, so that nothing that was there is pushed aside.
  if (value === undefined || !areThere(tutor, offers)) return <Pending title={t().tutor} heights={["9rem", "20rem", "8rem"]} error={error} again={reload} />;
  return <About tutor={value} offers={(offers.value ?? []).map((offer) => ({ ...offer, tutor_name: value.name }))} renew={offers.reload} />;
}

function About({ tutor, offers, renew }: { tutor: TutorView; offers: Parameters<typeof Offers>[0]["offers"]; renew: () => Promise<void> }) {
  // A package that was just bought can pay at once.
  const [bought, setBought] = useState(0);
  return (
    <>
      <Title
        beside={
          <a class="button" href="/tutors">
            {t().back}
          </a>
        }
      >
        {tutor.name}
      </Title>
      <div class="wallet tutor-page">
        <section class="card said" aria-label={tutor.name}>
          {tutor.title !== "" && <h2>{tutor.title}</h2>}
          <Facts of={tutor} />
        </section>
        <Ask key={bought} tutor={tutor} />
        {offers.length > 0 && (
          <section class="stack" aria-labelledby="offers">
            <h2 id="offers">{t().packages}</h2>
            <Offers
              offers={offers}
              closed={(hasBought) => {
                if (hasBought) setBought(bought + 1);
                void renew();
              }}
            />
          </section>
        )}
      </div>
    </>
  );
}
