"""Courses, their sessions, and their sale."""
