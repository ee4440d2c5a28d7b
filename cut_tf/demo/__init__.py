"""A page for the browser that shows what generators make of pictures: before and after, on this machine alone.

`models` knows what translates, `pictures` what is taken and how outputs are blended, `batch` does many files, and
`page` shows it with Gradio, which is not needed by the others.
"""
