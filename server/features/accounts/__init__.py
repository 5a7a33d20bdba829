"""Who people are: registration, login, tokens, roles, and what administrators do to accounts (REQUIREMENTS B-01, B-02)."""
