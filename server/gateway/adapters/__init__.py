"""How the hospital's systems talk to the gateway; each adapter is one way in, each inlet one way out.

`mllp_server` and `mllp_client` (HL7 v2), `dicom` (C-STORE), `folder` (files), `fhir_client` (questions through the
lock). They listen on addresses inside the hospital only, keep nothing themselves, and say "taken" only after the
journal has it (`server.gateway.core.crossing.Outlet`).
"""
