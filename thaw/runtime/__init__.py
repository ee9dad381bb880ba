"""What runs, waits and writes, and decides no number."""
