"""Statistics whose unit is the patient: intervals, permutation tests, and what they are worth at these sizes."""
