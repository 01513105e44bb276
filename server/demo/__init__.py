"""`consilium demo`: a sample hub, sample patients and the two simulators that make a consult come alive.

Nothing in a real installation imports this package. Everything it shows is
made by the project itself (the room's picture and sound, the patients) or
comes from a dependency's own sample data (the ECG record in pydicom), and all
of it is marked SIMULATED or bound to patients flagged as test patients [W9].
"""
