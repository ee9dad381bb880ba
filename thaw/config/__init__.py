"""Parameters: schema, checks, composition. It refuses and never computes."""
