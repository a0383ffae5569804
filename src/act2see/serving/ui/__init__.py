"""The page of act2see ui. Only `app.py` knows Gradio."""
