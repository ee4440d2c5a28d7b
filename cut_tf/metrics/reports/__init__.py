"""Metrics of whole folders: tables, CSV and JSON files."""
