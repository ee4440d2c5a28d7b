"""Commands for people who work on or with the package."""
