import type { Feature } from "../feature";
import { courses as icon, learning as learningIcon, teaching as teachingIcon } from "../icons/places";

export const courses: Feature = {
  routes: [
    { path: "/courses", page: () => import("./list"), for: "everybody" },
    { path: "/courses/:id", page: () => import("./course"), for: "everybody" },
    { path: "/learning", page: () => import("./learning"), for: "members" },
    { path: "/teach/courses", page: () => import("./teaching"), for: ["tutor"] },
    { path: "/teach/courses/new", page: () => import("./draft"), for: ["tutor"] },
    { path: "/teach/courses/:id", page: () => import("./editor"), for: ["tutor"] },
  ],
  places: [
    { path: "/courses", icon, name: { en: "Courses", vi: "Khóa học" }, for: "members" },
    { path: "/learning", also: ["/bookings"], icon: learningIcon, name: { en: "Learning", vi: "Việc học" }, for: ["student"] },
    { path: "/teach/courses", also: ["/teach", "/bookings"], icon: teachingIcon, name: { en: "Teaching", vi: "Giảng dạy" }, for: ["tutor"] },
  ],
};
