"""The terms: what applies, what would be, and what was."""
