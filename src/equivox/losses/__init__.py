"""Losses and sample weights; `catalog` is the table of them."""
