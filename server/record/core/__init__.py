"""What a FHIR resource means to us; no I/O."""
