import type { Feature } from "../feature";

/** The bell of the shell leads here. */
export const notifications: Feature = {
  routes: [{ path: "/notifications", page: () => import("./page"), for: "members" }],
  places: [],
};
