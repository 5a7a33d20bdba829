/** Everybody with an account: found, shut out, let in, given another role. */
import { useEffect, useState } from "preact/hooks";
import { day } from "../format";
import { Select } from "../parts/form";
import { usePages } from "../parts/pages";
import { toast } from "../parts/toast";
import { call } from "../server";
import { me } from "../session";
import type { ManagedAccount, Role } from "../wire";
import { Deed } from "./deed";
import { Frame } from "./frame";
import { List } from "./list";
import { t } from "./texts";

const ROLES = ["student", "tutor", "admin", "owner"] as const satisfies readonly Role[];
// So that a name is asked for once it is written, and not at each letter.
const PAUSE_MS = 250;

type Kind = "block" | "unblock" | "role";

export default function Users() {
  const [text, setText] = useState("");
  const [search, setSearch] = useState("");
  const [role, setRole] = useState<Role | "">("");
  const [deed, setDeed] = useState<{ kind: Kind; user: ManagedAccount } | null>(null);
  useEffect(() => {
    const timer = setTimeout(() => setSearch(text.trim()), PAUSE_MS);
    return () => clearTimeout(timer);
  }, [text]);
  const paged = usePages(
    (cursor: string | null) => call("admin.user.list", { role: role === "" ? null : role, search: search === "" ? null : search, cursor }),
    [role, search],
  );
  return (
    <Frame title={t().sections.users}>
      <search class="find">
        <div class="field">
          <label for="search-people">{t().search}</label>
          <input id="search-people" type="search" value={text} maxLength={100} onInput={({ currentTarget }) => setText(currentTarget.value)} />
        </div>
        <div class="field">
          <label for="role-of-people">{t().role}</label>
          <select id="role-of-people" value={role} onChange={({ currentTarget }) => setRole(ROLES.find((one) => one === currentTarget.value) ?? "")}>
            <option value="">{t().allRoles}</option>
            {ROLES.map((one) => (
              <option key={one} value={one}>
                {t().roles[one]}
              </option>
            ))}
          </select>
        </div>
      </search>
      <List paged={paged} none={t().noUsers}>
        {(user) => <User user={user} ask={(kind) => setDeed({ kind, user })} />}
      </List>
      {deed !== null && (
        <Asked
          kind={deed.kind}
          user={deed.user}
          done={async () => {
            toast(t().done);
            await paged.reload();
          }}
          close={() => setDeed(null)}
        />
      )}
    </Frame>
  );
}

function User({ user, ask }: { user: ManagedAccount; ask: (kind: Kind) => void }) {
  const isSelf = user.id === me.value?.id;
  return (
    <>
      <div class="about">
        <h2>
          {user.first_name} {user.last_name}
        </h2>
        <p class="faint">
          {user.email} · {t().joined(day(user.created_at))}
        </p>
        <p class="row">
          <span class="chip">{t().roles[user.role]}</span>
          {user.tutor_status !== null && <span class="chip">{t().tutorStates[user.tutor_status]}</span>}
          {user.blocked && <span class="chip bad">{t().blocked}</span>}
        </p>
      </div>
      {!isSelf && (
        <div class="deeds">
          <button type="button" class="button" onClick={() => ask("role")}>
            {t().changeRole}
          </button>
          {user.blocked ? (
            <button type="button" class="button" onClick={() => ask("unblock")}>
              {t().unblock}
            </button>
          ) : (
            <button type="button" class="button danger" onClick={() => ask("block")}>
              {t().block}
            </button>
          )}
        </div>
      )}
    </>
  );
}

function Asked({ kind, user, done, close }: { kind: Kind; user: ManagedAccount; done: () => Promise<void>; close: () => void }) {
  const [role, setRole] = useState<Role>(user.role);
  const user_id = user.id;
  if (kind === "role")
    return (
      <Deed
        title={t().changeRoleOf(user.first_name)}
        what={t().changeRoleWhat(user.email)}
        confirm={t().changeRole}
        isDangerous
        act={async ({ reason = "" }) => {
          await call("admin.user.role", { user_id, role, reason });
          await done();
        }}
        close={close}
      >
        <Select
          name="role"
          label={t().role}
          options={ROLES.map((one) => [one, t().roles[one]] as const)}
          value={role}
          choose={(chosen) => setRole(ROLES.find((one) => one === chosen) ?? role)}
        />
      </Deed>
    );
  const isBlocking = kind === "block";
  return (
    <Deed
      title={(isBlocking ? t().blockUser : t().unblockUser)(user.first_name)}
      what={(isBlocking ? t().blockUserWhat : t().unblockUserWhat)(user.email)}
      confirm={isBlocking ? t().block : t().unblock}
      isDangerous={isBlocking}
      act={async ({ reason = "" }) => {
        await call(isBlocking ? "admin.user.block" : "admin.user.unblock", { user_id, reason });
        await done();
      }}
      close={close}
    />
  );
}
