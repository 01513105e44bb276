"""The FHIRcast hub: outside programs follow and drive a consult's context. See DESIGN.md."""
