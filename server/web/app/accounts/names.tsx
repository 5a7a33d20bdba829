/** The fields of a name, in the order of the reader's language. */
import { Field } from "../parts/form";
import { language } from "../texts";
import type { Account } from "../wire";
import { t } from "./texts";

export function Names({ account }: { account?: Account }) {
  const fields = [
    <Field key="first" name="first_name" label={t().firstName} autocomplete="given-name" maxLength={100} required defaultValue={account?.first_name ?? ""} refusal={t().nameWrong} />,
    <Field key="last" name="last_name" label={t().lastName} autocomplete="family-name" maxLength={100} required defaultValue={account?.last_name ?? ""} refusal={t().nameWrong} />,
  ];
  return <div class="pair">{language.value === "vi" ? fields.toReversed() : fields}</div>;
}
