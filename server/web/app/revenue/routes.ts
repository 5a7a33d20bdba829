import type { Feature } from "../feature";

/** A section of the operators' pages, for the owner. */
export const revenue: Feature = {
  routes: [{ path: "/admin/revenue", page: () => import("./page"), for: ["owner"] }],
  places: [],
};
