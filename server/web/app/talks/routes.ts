import type { Feature } from "../feature";
import { talks as icon } from "../icons/places";

export const talks: Feature = {
  routes: [
    { path: "/", page: () => import("./home"), for: "everybody" },
    { path: "/scan", page: () => import("./scan"), for: "everybody" },
    { path: "/t/:code", page: () => import("./invitation"), for: "everybody" },
  ],
  places: [{ path: "/", icon, name: { en: "Talks", vi: "Trò chuyện" }, for: "members" }],
};
