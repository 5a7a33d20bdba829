/** TABLE: the features, in the order of the navigation. Nothing here may touch the page: the bundler reads it too. */
import { accounts } from "./accounts/routes";
import { courses } from "./courses/routes";
import { earnings } from "./earnings/routes";
import type { Feature } from "./feature";
import { talks } from "./talks/routes";
import { wallet } from "./wallet/routes";

export const FEATURES: readonly Feature[] = [talks, courses, wallet, earnings, accounts];

export const ROUTES = FEATURES.flatMap(({ routes }) => routes);
export const PLACES = FEATURES.flatMap(({ places }) => places);
