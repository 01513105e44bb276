"""FHIR resources in the database."""
