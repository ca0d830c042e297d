"""The devices of a run, and what lies in their memory."""
