"""What a period brought the platform, for its owner."""
