"""Writes the BUILD files: python -m tools.update_build"""
