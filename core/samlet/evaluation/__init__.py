"""Metrics of a model: against labels (prompts, clicks, everything mode), or against a teacher.

A score is the result for one object, one image or one prompt. Each kind of evaluation has a
function `evaluate_...`, which yields scores image by image, and one `summarize_...`, which makes a
table of mean figures of them. `samlet.evaluation.measure` runs them on files, and
`samlet.evaluation.report` writes all figures as text, JSON, CSV and plots.
"""
