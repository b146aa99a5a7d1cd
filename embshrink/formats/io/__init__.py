"""Reading and writing code that several formats share."""
