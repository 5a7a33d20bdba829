import type { Feature } from "../feature";
import { tutors as icon } from "../icons/places";

export const tutors: Feature = {
  routes: [
    { path: "/tutors", page: () => import("./list"), for: "everybody" },
    { path: "/tutors/:id", page: () => import("./tutor"), for: "everybody" },
    // Reached from teaching.
    { path: "/teach/profile", page: () => import("./profile"), for: ["tutor"] },
  ],
  places: [{ path: "/tutors", icon, name: { en: "Tutors", vi: "Gia sư" }, for: ["student"] }],
};
