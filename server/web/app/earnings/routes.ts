import type { Feature } from "../feature";

export const earnings: Feature = {
  routes: [{ path: "/teach/earnings", page: () => import("./earnings"), for: ["tutor"] }],
  // Reached from teaching and from the wallet.
  places: [],
};
