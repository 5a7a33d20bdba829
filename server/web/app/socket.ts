/** Runs in a shared worker: one connection for all tabs of this browser. */
import { serve } from "../client/src/worker.ts";

serve({ url: `${location.origin.replace(/^http/, "ws")}/ws`, client: { name: "web", version: "1" } });
