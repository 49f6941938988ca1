"""MTG-Jamendo."""
