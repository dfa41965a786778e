"""What every test shares."""

from __future__ import annotations

from hypothesis import settings

# A property is right or wrong; how long one example takes depends on who else uses the machine.
settings.register_profile("tritondeck", deadline=None)
settings.load_profile("tritondeck")
