"""Case packs and asks in the database."""
