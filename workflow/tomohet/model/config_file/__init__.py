"""config.pkl of a trained model, in the names of tomoDRGN: the only package that knows them.

`writing` makes its content from `model.settings`, `reading` makes `model.settings` from its content, `rules`
checks it, and `tomodrgn` translates the file of a run of tomoDRGN itself.
"""
