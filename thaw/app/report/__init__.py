"""The report, one HTML file about one run: `read` collects the run, `page` renders it, `write` is the way in."""
