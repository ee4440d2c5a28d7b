"""Tests over endless inputs. Here they try the same examples in every run, so that none fails by chance.

`python -m pytest tests/properties --hypothesis-profile=thorough` tries many more, other ones in every run.
"""

from hypothesis import HealthCheck, settings

_COMMON = {"deadline": None, "database": None,
           "suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture,
                                     HealthCheck.filter_too_much]}
settings.register_profile("same_every_time", derandomize=True, max_examples=60, **_COMMON)
settings.register_profile("thorough", max_examples=2000, **_COMMON)
settings.load_profile("same_every_time")
