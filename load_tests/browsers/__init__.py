"""Real Chromium for tests and benchmarks: profiles, pages of our own, and what people do and see there."""
