import type { Feature } from "../feature";

export const bookings: Feature = {
  routes: [
    { path: "/bookings", page: () => import("./list"), for: "members" },
    { path: "/bookings/:id", page: () => import("./booking"), for: "members" },
  ],
  // Reached from learning, from teaching, and from the operators' desk.
  places: [],
};
