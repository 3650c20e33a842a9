"""Measurements side by side with other packages; nothing in the library or the book needs them."""
