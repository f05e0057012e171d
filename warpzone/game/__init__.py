"""The cartridge turned into a learning problem."""
