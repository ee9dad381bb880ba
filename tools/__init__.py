"""Scripts for who works on thaw itself: python -m tools.NAME, from the checkout."""
