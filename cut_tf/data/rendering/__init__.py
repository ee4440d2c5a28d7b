"""Rendered street and park scenes with their depth."""
