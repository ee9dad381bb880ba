"""The commands of thaw, one module each: `add_parser` declares the arguments, `run` runs. They share `common`."""
