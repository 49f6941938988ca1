"""GTZAN without its faulty tracks."""
