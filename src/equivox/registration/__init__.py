"""Registration of scans. Nothing is here yet: elastix and IMPACT come with the registration issue."""
