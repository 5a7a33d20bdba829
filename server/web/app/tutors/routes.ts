import type { Feature } from "../feature";

export const tutors: Feature = {
  routes: [{ path: "/teach/profile", page: () => import("./profile"), for: ["tutor"] }],
  // Reached from teaching.
  places: [],
};
