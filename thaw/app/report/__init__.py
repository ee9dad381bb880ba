"""The report, one HTML file about one run: `read` collects the run, `page` renders it. Start at `write`."""
