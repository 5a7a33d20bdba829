"""What providers tell us: verified, stored once by the provider's own id, and only then acted upon."""
