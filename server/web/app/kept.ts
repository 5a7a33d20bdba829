/** What the browser keeps for us between visits. It may refuse to: then every visit is a first one. */
type Name =
  | "after_top_up"
  | "camera"
  | "camera.off"
  | "language"
  | "member"
  | "microphone"
  | "microphone.off"
  | "referral"
  | "theme";

export const kept = {
  get(name: Name): string | null {
    try {
      return localStorage.getItem(`fourtalk.${name}`);
    } catch {
      return null;
    }
  },
  set(name: Name, value: string | null): void {
    try {
      if (value === null) localStorage.removeItem(`fourtalk.${name}`);
      else localStorage.setItem(`fourtalk.${name}`, value);
    } catch {
      // Private windows of some browsers have no storage.
    }
  },
};
