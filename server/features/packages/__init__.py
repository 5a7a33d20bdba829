"""Packages of lessons: what tutors offer, and what students have of it."""
