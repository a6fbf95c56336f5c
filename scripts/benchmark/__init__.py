"""The parts of scripts/bench: loads, bare loops to compare with, stand-ins for servers, accounting."""
