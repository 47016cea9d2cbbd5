"""How all tests run."""

from hypothesis import HealthCheck, settings

# A slow machine, or one that does other work besides, makes no test wrong: what must be quick says so itself.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")
