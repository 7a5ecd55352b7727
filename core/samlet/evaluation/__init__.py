"""How good the masks are: against labels by prompts, clicks and everything mode; against a teacher.

A score is one object's, image's or prompt's result; each module yields them image by image and has
a summary of them; `samlet.evaluation.report` turns all of them into tables, CSV files and plots.
"""
