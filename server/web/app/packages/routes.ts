import type { Feature } from "../feature";

export const packages: Feature = {
  routes: [
    { path: "/packages", page: () => import("./packages"), for: "members" },
    { path: "/packages/:id", page: () => import("./package"), for: "members" },
    { path: "/teach/packages", page: () => import("./offers"), for: ["tutor"] },
  ],
  // Reached from the wallet and from teaching.
  places: [],
};
