"""What tutors say of themselves, and their application to teach (B-05)."""
