"""Registered clients, grants and tokens in the database."""
