"""For all suites. Its place makes the ``tests`` package importable, so that suites can share builders and adapters.

Property tests have no deadline: how long an example takes says something about
the machine, not about the law. ``make fuzz`` (CONSILIUM_FUZZ=1) runs many more of
them wherever a test does not fix the number itself.
"""

import os

from hypothesis import HealthCheck, settings

settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("fuzz", settings.get_profile("house"), max_examples=20_000)
settings.load_profile("fuzz" if os.environ.get("CONSILIUM_FUZZ") else "house")
