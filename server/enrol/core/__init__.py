"""What an enrolment code is."""
