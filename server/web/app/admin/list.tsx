/** A list of cards with what can be done to each: loading, nothing, trouble, and more of it. */
import type { ComponentChildren } from "preact";
import icon from "../icons/done.svg";
import { More } from "../parts/more";
import type { Paged } from "../parts/pages";
import { Empty, Failure, Loading } from "../parts/states";
import { t } from "./texts";

interface Options<Item> {
  paged: Paged<Item>;
  none: string;
  children: (item: Item) => ComponentChildren;
}

export function List<Item extends { id: string }>({ paged: { items, error, reload, more }, none, children }: Options<Item>) {
  if (items === undefined) return error === undefined ? <Loading heights={["5rem", "5rem", "5rem"]} /> : <Failure error={error} again={reload} />;
  if (items.length === 0)
    return (
      <Empty icon={icon} title={none}>
        <p>{t().nothingWhy}</p>
      </Empty>
    );
  return (
    <>
      <ul class="items">
        {items.map((item) => (
          <li class="item card" key={item.id}>
            {children(item)}
          </li>
        ))}
      </ul>
      <More more={more} />
    </>
  );
}
