"""Who came by whose code, and what it brought."""
