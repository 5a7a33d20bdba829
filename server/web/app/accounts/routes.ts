import type { Feature } from "../feature";
import { settings as icon } from "../icons/places";

export const accounts: Feature = {
  routes: [
    { path: "/login", page: () => import("./login"), for: "everybody" },
    { path: "/register", page: () => import("./register"), for: "everybody" },
    { path: "/forgot", page: () => import("./forgot"), for: "everybody" },
    { path: "/reset", page: () => import("./reset"), for: "everybody" },
    { path: "/settings", page: () => import("./settings"), for: "members" },
  ],
  places: [{ path: "/settings", icon, name: { en: "Settings", vi: "Cài đặt" }, for: "members" }],
};
