"""Scopes, PKCE and client assertions; time and random values come in as arguments."""
