"""Free-talk rooms: who opens one, who finds it, who was there."""
