"""UrbanSound8K."""
