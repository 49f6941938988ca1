"""The user's own music."""
