"""Folders that model hubs take: every form of a generator, with a card."""
