/**
 * Forms: the server says what is wrong, field by field, and the form shows it there.
 *
 *     <Form submit={(values) => save(values)}>
 *       <Field name="email" label={t().email} type="email" required />
 *       <Submit>{t().save}</Submit>
 *     </Form>
 */
import { type ComponentChildren, createContext } from "preact";
import { useContext, useId, useRef, useState } from "preact/hooks";
import { Refused } from "../server";
import { useBusy } from "./busy";
import { words } from "./states";
import { t } from "./texts";

type Values = Record<string, string>;
interface Status {
  isBusy: boolean;
  wrong: Readonly<Record<string, string>>;
}

const Current = createContext<Status>({ isBusy: false, wrong: {} });

interface FormOptions {
  /** `pressed`: the value of the button, where a form has several. */
  submit: (values: Values, pressed: string) => Promise<void>;
  children: ComponentChildren;
}

export function Form({ submit, children }: FormOptions) {
  const form = useRef<HTMLFormElement>(null);
  const [isBusy, alone] = useBusy();
  const [wrong, setWrong] = useState<Readonly<Record<string, string>>>({});
  const [failure, setFailure] = useState<unknown>(null);

  async function send(event: SubmitEvent): Promise<void> {
    const pressed = event.submitter instanceof HTMLButtonElement ? event.submitter.value : "";
    const controls = named(form.current);
    const blank = controls.filter(({ required, value }) => required && value.trim() === "");
    setWrong(Object.fromEntries(blank.map(({ name }) => [name, t().required])));
    setFailure(null);
    if (blank.length > 0) {
      blank[0]?.focus();
      return;
    }
    try {
      await submit(Object.fromEntries(controls.map(({ name, value }) => [name, value])), pressed);
    } catch (error) {
      const fields = error instanceof Refused ? error.fields : {};
      const first = controls.find(({ name }) => name in fields);
      setWrong(fields);
      // What no field of this form can show is shown above it.
      setFailure(first === undefined ? error : null);
      first?.focus();
    }
  }

  return (
    <Current.Provider value={{ isBusy, wrong }}>
      {/* The browser's own bubbles speak its language, not the page's. */}
      <form
        class="form"
        ref={form}
        noValidate
        onSubmit={(event) => {
          event.preventDefault();
          void alone(() => send(event));
        }}
      >
        {failure !== null && (
          <p class="alert" role="alert">
            {words(failure)}
          </p>
        )}
        {children}
      </form>
    </Current.Provider>
  );
}

interface FieldOptions {
  name: string;
  label: string;
  hint?: string;
  /** Said instead of the server's words when it refuses this field. */
  refusal?: string;
}

interface InputOptions extends FieldOptions {
  type?: "email" | "password" | "text" | "date" | "datetime-local" | "number";
  autocomplete?: string;
  inputMode?: "decimal" | "numeric";
  required?: boolean;
  maxLength?: number;
  defaultValue?: string;
}

export function Field({ label, hint, refusal, type = "text", ...input }: InputOptions) {
  return (
    <Labelled name={input.name} label={label} hint={hint} refusal={refusal}>
      {/* preact has a type for each kind of input; ours are alike. */}
      {(described) => <input {...described} {...input} type={type as "text"} />}
    </Labelled>
  );
}

interface TextOptions extends FieldOptions {
  rows?: number;
  required?: boolean;
  maxLength?: number;
  defaultValue?: string;
}

export function TextField({ label, hint, refusal, rows = 4, ...area }: TextOptions) {
  return (
    <Labelled name={area.name} label={label} hint={hint} refusal={refusal}>
      {(described) => <textarea {...described} {...area} rows={rows} />}
    </Labelled>
  );
}

interface SelectOptions extends FieldOptions {
  options: readonly (readonly [value: string, text: string])[];
  value: string;
  choose: (value: string) => void;
}

export function Select({ name, label, hint, refusal, options, value: chosen, choose }: SelectOptions) {
  return (
    <Labelled name={name} label={label} hint={hint} refusal={refusal}>
      {(described) => (
        <select {...described} name={name} value={chosen} onChange={({ currentTarget }) => choose(currentTarget.value)}>
          {options.map(([value, text]) => (
            <option key={value} value={value}>
              {text}
            </option>
          ))}
        </select>
      )}
    </Labelled>
  );
}

interface Described {
  id: string;
  "aria-invalid"?: "true";
  "aria-describedby"?: string;
}

function Labelled({
  name,
  label,
  hint,
  refusal,
  children,
}: { name: string; label: string; hint: string | undefined; refusal: string | undefined; children: (described: Described) => ComponentChildren }) {
  const { wrong } = useContext(Current);
  const id = useId();
  const said = wrong[name];
  const trouble = said === undefined || said === t().required ? said : (refusal ?? said);
  // Refusals mostly say what the hint says.
  const note = trouble !== undefined ? `${id}-wrong` : hint !== undefined ? `${id}-hint` : undefined;
  return (
    <div class="field">
      <label for={id}>{label}</label>
      {children({
        id,
        ...(trouble === undefined ? {} : { "aria-invalid": "true" as const }),
        ...(note === undefined ? {} : { "aria-describedby": note }),
      })}
      {trouble !== undefined && (
        <p class="wrong" id={`${id}-wrong`}>
          {trouble}
        </p>
      )}
      {hint !== undefined && trouble === undefined && (
        <p class="hint" id={`${id}-hint`}>
          {hint}
        </p>
      )}
    </div>
  );
}

interface SubmitOptions {
  children: ComponentChildren;
  wide?: boolean;
  isDangerous?: boolean;
  /** Not what the form is for. */
  isSecond?: boolean;
  value?: string;
}

export function Submit({ children, wide = false, isDangerous = false, isSecond = false, value = "" }: SubmitOptions) {
  const { isBusy } = useContext(Current);
  const kind = isDangerous ? "danger" : isSecond ? "" : "primary";
  return (
    <button type="submit" value={value} class={`button ${kind} ${wide ? "wide" : ""}`} disabled={isBusy} aria-busy={isBusy}>
      {children}
    </button>
  );
}

function named(form: HTMLFormElement | null): (HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement)[] {
  return [...(form?.elements ?? [])].filter(
    (control): control is HTMLInputElement =>
      (control instanceof HTMLInputElement || control instanceof HTMLSelectElement || control instanceof HTMLTextAreaElement) &&
      control.name !== "" &&
      !(control instanceof HTMLInputElement && control.type === "radio" && !control.checked),
  );
}
