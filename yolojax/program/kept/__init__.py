"""What is kept of compiled programs from one start to the next."""
