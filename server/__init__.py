"""The application: composition root, HTTP API, identity, record and demo."""
