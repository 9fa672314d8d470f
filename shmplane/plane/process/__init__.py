"""This process in a plane: its slot, its part in every transaction, how it comes and goes. Knows no value and no name."""
