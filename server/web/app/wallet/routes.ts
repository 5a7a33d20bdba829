import type { Feature } from "../feature";
import { wallet as icon } from "../icons/places";

export const wallet: Feature = {
  routes: [
    { path: "/wallet", page: () => import("./wallet"), for: "members" },
    { path: "/holds", page: () => import("./holds"), for: "members" },
    { path: "/holds/:id", page: () => import("./hold"), for: "members" },
  ],
  places: [{ path: "/wallet", also: ["/holds", "/packages"], icon, name: { en: "Wallet", vi: "Ví" }, for: "members" }],
};
