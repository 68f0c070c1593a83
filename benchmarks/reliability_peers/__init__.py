"""The systems that `reliability.py` sets side by side, and what is done to them."""
