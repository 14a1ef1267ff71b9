"""The parts of bin/torture."""
