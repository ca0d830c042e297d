"""A run that lives in a bucket: worked on here, and mirrored there after every save."""
