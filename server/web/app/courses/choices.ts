/** What a course can be filtered and described by. */
export const LEVELS = ["A1", "A2", "B1", "B2", "C1", "C2"] as const;
export const LANGUAGES = ["en", "vi", "es", "fr", "de", "ja", "ko", "zh"] as const;
