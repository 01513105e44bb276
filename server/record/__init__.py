"""The patient's record: FHIR R4 resources, who may read them and when."""
