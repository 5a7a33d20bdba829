/** Every open room with its people, as it is now. */
import { useState } from "preact/hooks";
import icon from "../icons/live.svg";
import { Choice } from "../parts/choice";
import { useLoaded } from "../parts/loaded";
import { Empty, Failure, Loading } from "../parts/states";
import { call } from "../server";
import type { RoomView } from "../wire";
import { Frame } from "./frame";
import { useFresh } from "./fresh";
import { Integrity } from "./integrity";
import { Seats, State, Times } from "./room";
import { t } from "./texts";

// As many as one answer carries; who looks at more of them at once sees nothing any more.
const SHOWN = 100;
const FOLLOWED = 50;

type Filter = "open" | "live" | "closed";

export default function Live() {
  const [filter, setFilter] = useState<Filter>("open");
  const { value, error, reload } = useLoaded(
    () => call("admin.room.list", { state: filter === "open" ? null : filter, limit: SHOWN }),
    [filter],
  );
  // Of the many, those at the top tell at once; a socket follows no more than a hundred channels.
  useFresh(reload, filter === "closed" ? [] : (value?.items.slice(0, FOLLOWED).map(({ id }) => id) ?? []));
  return (
    <Frame title={t().sections.live}>
      <div class="row spread">
        <Choice
          label={t().which}
          options={[["open", t().filters.open], ["live", t().filters.live], ["closed", t().filters.closed]]}
          value={filter}
          choose={setFilter}
        />
        <Integrity />
      </div>
      <p class="visually-hidden" role="status">
        {value && t().rooms(value.items.length)}
      </p>
      {value === undefined ? (
        error === undefined ? <Loading heights={["12rem", "12rem"]} /> : <Failure error={error} again={reload} />
      ) : value.items.length === 0 ? (
        <Empty icon={icon} title={t().noRooms[filter]}>
          <p>{t().noRoomsWhy}</p>
        </Empty>
      ) : (
        <>
          {error !== undefined && <p class="faint">{t().stale}</p>}
          <ul class="rooms">
            {value.items.map((room) => (
              <Room key={room.id} room={room} now={value.now} />
            ))}
          </ul>
          {value.next_cursor !== null && <p class="faint">{t().newestOnly(SHOWN)}</p>}
        </>
      )}
    </Frame>
  );
}

function Room({ room, now }: { room: RoomView; now: string }) {
  return (
    <li class="room card">
      <header>
        <h2>
          <a href={`/admin/live/${room.id}`}>{room.title}</a>
        </h2>
        <p class="row">
          <State state={room.state} />
          <span class="chip">{t().kinds[room.kind]}</span>
          <span class="faint">{room.owner}</span>
        </p>
      </header>
      <Seats seats={room.seats} cap={room.cap} />
      {room.waiting.length > 0 && <p class="faint">{t().waiting(room.waiting.join(", "))}</p>}
      <Times room={room} now={now} />
    </li>
  );
}
