"""Our own authorization server: who may use the FHIR interface, and for which patients (SMART App Launch 2)."""
