export { type HubOptions, serve } from "./hub.ts";
