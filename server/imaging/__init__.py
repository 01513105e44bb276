"""Pictures of the record: DICOM images of an ImagingStudy, drawn by the server."""
