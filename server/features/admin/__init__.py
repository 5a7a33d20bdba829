"""What administrators see of the machinery, and do about it."""
