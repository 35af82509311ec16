"""Visual dialog: a talk about a picture, in which a question may hang on what was said before."""
