"""Networks and their layers; `catalog` is the table of them."""
