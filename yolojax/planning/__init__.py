"""What a run will take on devices that are not here, before one of them is rented."""
