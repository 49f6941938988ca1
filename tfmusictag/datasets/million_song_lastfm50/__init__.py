"""Million Song Dataset with Last.fm's 50 most used tags."""
