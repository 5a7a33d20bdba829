import type { Feature } from "../feature";
import icon from "../icons/courses.svg";
import learningIcon from "../icons/learning.svg";
import teachingIcon from "../icons/teaching.svg";

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
    { path: "/learning", icon: learningIcon, name: { en: "Learning", vi: "Việc học" }, for: ["student"] },
    { path: "/teach/courses", also: ["/teach"], icon: teachingIcon, name: { en: "Teaching", vi: "Giảng dạy" }, for: ["tutor"] },
  ],
};
