"""Writes the BUILD files from the Python files and their imports: python -m tools.update_build"""
