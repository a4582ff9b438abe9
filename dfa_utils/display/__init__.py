"""How results look in a notebook and on a page: HTML and SVG without scripts, light and dark, that load nothing."""
