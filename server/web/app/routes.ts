/** TABLE: the features, in the order of the navigation. Nothing here may touch the page: the bundler reads it too. */
import { accounts } from "./accounts/routes";
import { admin } from "./admin/routes";
import { bookings } from "./bookings/routes";
import { courses } from "./courses/routes";
import { earnings } from "./earnings/routes";
import type { Feature } from "./feature";
import { notifications } from "./notifications/routes";
import { packages } from "./packages/routes";
import { policy } from "./policy/routes";
import { revenue } from "./revenue/routes";
import { rooms } from "./rooms/routes";
import { talks } from "./talks/routes";
import { tutors } from "./tutors/routes";
import { wallet } from "./wallet/routes";

export const FEATURES: readonly Feature[] = [talks, courses, tutors, bookings, wallet, packages, earnings, admin, policy, revenue, notifications, rooms, accounts];

export const ROUTES = FEATURES.flatMap(({ routes }) => routes);
export const PLACES = FEATURES.flatMap(({ places }) => places);
