import type { Feature } from "../feature";

/** A section of the operators' pages. */
export const policy: Feature = {
  routes: [{ path: "/admin/policy", page: () => import("./page"), for: ["admin", "owner"] }],
  places: [],
};
