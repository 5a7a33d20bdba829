/** A new course; what it lacks then, dates and publication, is done on its own page. */
import { useLocation } from "preact-iso";
import { Form, Submit } from "../parts/form";
import { useKeys } from "../parts/keys";
import { Title } from "../parts/title";
import { call } from "../server";
import { me } from "../session";
import { Fields, read } from "./fields";
import { saying } from "./refusals";
import { Approval } from "./teaching";
import { t } from "./texts";

export default function Draft() {
  const { route } = useLocation();
  const keyOf = useKeys();
  async function create(values: Record<string, string>): Promise<void> {
    const asked = read(values);
    const { id } = await saying(call("course.create", asked, { key: keyOf(asked) }));
    route(`/teach/courses/${id}`, true);
  }
  return (
    <>
      <Title>{t().newCourse}</Title>
      <Approval />
      {me.value?.tutor_status === "approved" && (
        <div class="editor">
          <section class="card">
            <Form submit={create}>
              <Fields />
              <Submit>{t().create}</Submit>
            </Form>
          </section>
        </div>
      )}
    </>
  );
}
