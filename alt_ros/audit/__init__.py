"""A bag through the live code again: what was recalled and sent, why, and what went wrong."""
