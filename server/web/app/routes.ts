/** TABLE: the features, in the order of the navigation. Nothing here may touch the page: the bundler reads it too. */
import { accounts } from "./accounts/routes";
import type { Feature } from "./feature";
import { rooms } from "./rooms/routes";
import { talks } from "./talks/routes";

export const FEATURES: readonly Feature[] = [talks, rooms, accounts];

export const ROUTES = FEATURES.flatMap(({ routes }) => routes);
export const PLACES = FEATURES.flatMap(({ places }) => places);
