"""DCASE 2017 task 4."""
