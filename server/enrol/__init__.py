"""Enrolment of programs and devices by one-time codes."""
