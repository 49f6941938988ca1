"""Formulas in NumPy, each with its source; nothing here knows a framework."""
