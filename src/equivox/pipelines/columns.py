"""The columns of a case table that hold what is known of the patients."""

from typing import Final

GROUP_PREFIX: Final = "attribute:"
"""Before the name of an attribute: the group of the patient."""

NUMBER_PREFIX: Final = "number:"
"""Before the name of a continuous attribute: the patient's number."""
