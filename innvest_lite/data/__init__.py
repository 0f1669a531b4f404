"""Data for the demo."""
