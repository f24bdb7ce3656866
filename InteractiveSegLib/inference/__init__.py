"""Volumes larger than what a network sees at once."""
