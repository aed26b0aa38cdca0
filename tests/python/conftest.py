"""How hypothesis searches: without deadlines, which a busy machine would miss."""

import os

from hypothesis import settings

settings.register_profile("default", deadline=None, print_blob=True, max_examples=100)
settings.register_profile("long", deadline=None, print_blob=True, max_examples=3000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
