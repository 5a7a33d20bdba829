"""Disputes of students about settled lessons, and what people are told of those of banks."""
