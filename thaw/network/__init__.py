"""The network in blocks: built, folded, augmented, saved, loaded and run. Start at `build.Network`."""
