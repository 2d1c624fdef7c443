"""The one loop for every method, in one process or several, and what a method is handed."""
