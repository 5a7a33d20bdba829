/** What a tutor offers, and what was sold of it. */
import { useEffect, useState } from "preact/hooks";
import { teaching as teachingIcon } from "../icons/places";
import { money } from "../format";
import { amountOf, AmountField } from "../parts/amount";
import { useBusy } from "../parts/busy";
import { Answers, Modal } from "../parts/dialog";
import { Field, Form, Submit, TextField } from "../parts/form";
import { useKeys } from "../parts/keys";
import { useLoaded } from "../parts/loaded";
import { usePages } from "../parts/pages";
import { Empty, Failure, Loading, words } from "../parts/states";
import { Title } from "../parts/title";
import { toast } from "../parts/toast";
import { call, Refused, subscribe } from "../server";
import { me } from "../session";
import type { OptionView } from "../wire";
import { List } from "./list";
import { t } from "./texts";
import { holds } from "./words";

export default function Offers() {
  const id = me.value?.id ?? "";
  const isApproved = me.value?.tutor_status === "approved";
  const [edited, setEdited] = useState<OptionView | "new" | null>(null);
  // Who is not approved offers nothing, and is nobody whose offers could be asked for.
  const { value, error, reload } = useLoaded(async () => (isApproved ? call("package_option.list", { tutor_id: id }) : { items: [], next_cursor: null }), [id, isApproved]);
  const sold = usePages((cursor: string | null) => call("package.list", { cursor, limit: 20 }), [id]);
  useEffect(() => subscribe(`user:${id}`, { onReset: () => undefined, onEvent: ({ ev }) => ev.startsWith("package.") && void sold.reload() }), [id]);
  return (
    <>
      <Title
        beside={
          <div class="row">
            <a class="button" href="/teach/courses">
              {t().toTeaching}
            </a>
            {isApproved && (
              <button type="button" class="button primary" onClick={() => setEdited("new")}>
                {t().newOffer}
              </button>
            )}
          </div>
        }
      >
        {t().offers}
      </Title>
      <div class="wallet">
        <p class="soft">{t().offersWhy}</p>
        {!isApproved && <p class="notice">{t().notApproved}</p>}
        {value === undefined ? (
          error === undefined ? <Loading heights={["7rem", "7rem"]} /> : <Failure error={error} again={reload} />
        ) : value.items.length === 0 ? (
          isApproved && (
            <Empty icon={teachingIcon} title={t().noOffers}>
              <p>{t().noOffersWhy}</p>
            </Empty>
          )
        ) : (
          <ul class="offers">
            {value.items.map((offer) => (
              <Offer key={offer.id} offer={offer} edit={() => setEdited(offer)} changed={reload} />
            ))}
          </ul>
        )}
        <section class="card stack" aria-labelledby="sold">
          <h2 id="sold">{t().soldList}</h2>
          <List paged={sold} none={t().noneSold} />
        </section>
      </div>
      {edited !== null && (
        <Edit
          offer={edited === "new" ? null : edited}
          close={(isSaved) => {
            setEdited(null);
            if (isSaved) void reload();
          }}
        />
      )}
    </>
  );
}

function Offer({ offer, edit, changed }: { offer: OptionView; edit: () => void; changed: () => Promise<void> }) {
  const [isBusy, alone] = useBusy();
  async function turn(): Promise<void> {
    try {
      await call("package_option.hide", { option_id: offer.id, hidden: !offer.is_hidden });
      await changed();
    } catch (error) {
      toast(words(error));
    }
  }
  return (
    <li class="card offer">
      <h2>{offer.title}</h2>
      <p class="row">
        <span class="chip">{t().lessons(offer.sessions, offer.minutes)}</span>
        {offer.is_hidden && <span class="chip">{t().hidden}</span>}
      </p>
      <p class="faint">{holds(offer)}</p>
      <p>
        <strong class="figures">{money(offer.price)}</strong> <span class="faint">{t().each(money(offer.per_session))}</span>
      </p>
      <div class="row">
        <button type="button" class="button" onClick={edit}>
          {t().edit}
        </button>
        <button type="button" class="button" disabled={isBusy} aria-busy={isBusy} onClick={() => void alone(turn)}>
          {offer.is_hidden ? t().show : t().hide}
        </button>
      </div>
    </li>
  );
}

function Edit({ offer, close }: { offer: OptionView | null; close: (isSaved: boolean) => void }) {
  const keyOf = useKeys();
  const [isRolling, setRolling] = useState(offer?.is_rolling ?? false);
  async function save(values: Record<string, string>): Promise<void> {
    const days = (values["validity_days"] ?? "").trim();
    const asked = {
      title: values["title"] ?? "",
      description: values["description"] ?? "",
      minutes: whole(values, "minutes"),
      sessions: whole(values, "sessions"),
      price: amountOf(values["price"], "price"),
      validity_days: days === "" ? null : whole(values, "validity_days"),
      is_rolling: isRolling,
    };
    await (offer === null ? call("package_option.create", asked, { key: keyOf(asked) }) : call("package_option.update", { option_id: offer.id, ...asked }));
    toast(t().saved);
    close(true);
  }
  return (
    <Modal title={offer === null ? t().newOffer : t().editOffer} close={() => close(false)}>
      <Form submit={save}>
        <Field name="title" label={t().title} maxLength={255} required defaultValue={offer?.title ?? ""} />
        <TextField name="description" label={t().description} maxLength={5000} rows={3} defaultValue={offer?.description ?? ""} />
        <div class="pair">
          <Field name="sessions" label={t().count} inputMode="numeric" refusal={t().number} autocomplete="off" required defaultValue={String(offer?.sessions ?? 5)} />
          <Field name="minutes" label={t().minutes} inputMode="numeric" refusal={t().number} autocomplete="off" required defaultValue={String(offer?.minutes ?? 60)} />
        </div>
        <AmountField name="price" label={t().total} defaultValue={offer === null ? "" : (offer.price.amount / 100).toFixed(2)} />
        <Field name="validity_days" label={t().validity} hint={t().validityHint} inputMode="numeric" autocomplete="off" defaultValue={offer?.validity_days?.toString() ?? ""} />
        <label class="check">
          <input type="checkbox" checked={isRolling} onChange={({ currentTarget }) => setRolling(currentTarget.checked)} /> {t().isRolling}
        </label>
        <Answers close={() => close(false)}>
          <Submit>{t().save}</Submit>
        </Answers>
      </Form>
    </Modal>
  );
}

function whole(values: Record<string, string>, name: string): number {
  const text = (values[name] ?? "").trim();
  if (!/^\d{1,6}$/.test(text)) throw new Refused("bad_request", t().number, { [name]: t().number });
  return Number(text);
}
