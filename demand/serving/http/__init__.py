"""What the API, the model server and the page share of HTTP."""
