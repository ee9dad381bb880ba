"""Image files of people's own, as arrays."""
