"""From a checked config to things. A config stops here."""
