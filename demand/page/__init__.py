"""The seller's page: a Gradio application that asks the deployed API, never the model file."""
