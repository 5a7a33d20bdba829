import type { Feature } from "../feature";

export const rooms: Feature = {
  routes: [{ path: "/rooms/:id", page: () => import("./room"), for: "members" }],
  places: [],
};
