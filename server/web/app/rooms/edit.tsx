/** What a talk is about: how it stands in the list, and is found there. Its host says so, whenever they like. */
import { useState } from "preact/hooks";
import { languageName } from "../format";
import { Answers, Modal } from "../parts/dialog";
import { Field, Form, Select, Submit } from "../parts/form";
import { useLoaded } from "../parts/loaded";
import { Failure, Loading } from "../parts/states";
import { toast } from "../parts/toast";
import { call } from "../server";
import { LANGUAGES, LEVELS, TITLE_MAX, TOPIC_MAX } from "../talks/choices";
import type { Id, TalkView } from "../wire";
import { t } from "./texts";

export function Edit({ room, close }: { room: Id; close: () => void }) {
  const { value: talk, error, reload } = useLoaded(() => call("talk.get", { talk_id: room }), [room]);
  return (
    <Modal title={t().editTitle} close={close}>
      {talk !== undefined ? <Fields talk={talk} close={close} /> : error === undefined ? <Loading heights={["4rem", "4rem", "4rem"]} /> : <Failure error={error} again={() => void reload()} />}
    </Modal>
  );
}

function Fields({ talk, close }: { talk: TalkView; close: () => void }) {
  const [language, setLanguage] = useState(talk.language);
  const [level, setLevel] = useState(talk.level ?? "");
  // Who speaks to the server without a page may have named another one.
  const languages = [...new Set([talk.language, ...LANGUAGES])];
  async function save({ title = "", topic = "" }: Record<string, string>): Promise<void> {
    await call("talk.update", {
      talk_id: talk.id,
      title,
      language,
      level: LEVELS.find((known) => known === level) ?? null,
      topic: topic.trim() || null,
    });
    toast(t().isEdited);
    close();
  }
  return (
    <Form submit={save}>
      <Field name="title" label={t().talkTitle} maxLength={TITLE_MAX} defaultValue={talk.title} required />
      <Select name="language" label={t().language} options={languages.map((code) => [code, languageName(code)] as const)} value={language} choose={setLanguage} />
      <Select name="level" label={t().levelOf} options={[["", t().anyLevel], ...LEVELS.map((known) => [known, known] as const)]} value={level} choose={setLevel} />
      <Field name="topic" label={t().topic} maxLength={TOPIC_MAX} defaultValue={talk.topic ?? ""} />
      <Answers close={close}>
        <Submit>{t().save}</Submit>
      </Answers>
    </Form>
  );
}
