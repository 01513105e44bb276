"""The record as it grows: import, search, and a patient's page."""
