"""The clicks of a user on one image, without viewer or Qt."""
