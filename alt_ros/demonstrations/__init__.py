"""Recorded episodes: one type, a file per format, and the store that training reads."""
