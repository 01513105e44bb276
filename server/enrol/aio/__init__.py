"""Enrolment codes in the database."""
