import type { Feature, Route } from "../feature";
import { admin as icon } from "../icons/places";

const OPERATORS: Route["for"] = ["admin", "owner"];

export const admin: Feature = {
  routes: [
    { path: "/admin", page: () => import("./desk"), for: OPERATORS },
    { path: "/admin/live", page: () => import("./live"), for: OPERATORS },
    { path: "/admin/live/:id", page: () => import("./journal"), for: OPERATORS },
    { path: "/admin/tutors", page: () => import("./tutors"), for: OPERATORS },
    { path: "/admin/users", page: () => import("./users"), for: OPERATORS },
    { path: "/admin/withdrawals", page: () => import("./withdrawals"), for: OPERATORS },
    { path: "/admin/disputes", page: () => import("./disputes"), for: OPERATORS },
    { path: "/admin/reviews", page: () => import("./reviews"), for: OPERATORS },
    { path: "/admin/money", page: () => import("./money"), for: OPERATORS },
    { path: "/admin/jobs", page: () => import("./jobs"), for: OPERATORS },
    { path: "/admin/webhooks", page: () => import("./webhooks"), for: OPERATORS },
  ],
  places: [{ path: "/admin", also: ["/bookings"], icon, name: { en: "Operate", vi: "Vận hành" }, for: OPERATORS }],
};
