"""thaw audit: duplicates and suspected label errors in data/processed. Start at `findings.search`."""
