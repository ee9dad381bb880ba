"""Scripts for the development of thaw: python -m tools.NAME, from the checkout."""
