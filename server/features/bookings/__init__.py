"""One-to-one lessons: asked for, agreed, held, and what their end means for the money (B-07, B-08)."""
