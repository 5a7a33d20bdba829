/** What a talk can be about, where it is looked for and where it is said. */
export const LEVELS = ["A1", "A2", "B1", "B2", "C1", "C2"] as const;
export const LANGUAGES = ["en", "vi", "es", "fr", "de", "ja", "ko", "zh"] as const;
// As the server's own limits of them.
export const TITLE_MAX = 255;
export const TOPIC_MAX = 100;
