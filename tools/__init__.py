"""Commands of the makefile."""
