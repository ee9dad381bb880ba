"""The command line: the commands, and the reports, tables and files that they write. Start at `commands`."""
