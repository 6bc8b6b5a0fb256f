"""How many random examples a property is tried on: as in hypothesis's profile, or a multiple.

The default profile tries the same examples in each run, so that a failure belongs to the change
that caused it. The campaign searches among new ones, forty times as many.
"""

from hypothesis import HealthCheck, settings

DEFAULT = settings(
    deadline=None,  # a busy machine is not a fault
    derandomize=True,
    max_examples=15,
    suppress_health_check=[HealthCheck.too_slow],
)
CAMPAIGN = settings(DEFAULT, derandomize=False, max_examples=40 * DEFAULT.max_examples)


def examples(times: float) -> settings:
    """Return settings that multiply the number of examples of the profile."""
    return settings(max_examples=round(times * settings().max_examples))
