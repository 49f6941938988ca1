"""Speech Commands with all of its words."""
