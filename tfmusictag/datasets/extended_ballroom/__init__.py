"""Extended Ballroom."""
