"""One comparison from request to table: what is asked for, what is planned, made, and said of it."""
