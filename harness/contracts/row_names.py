"""The rows of a table that no method makes: who plans them and who reports them call them alike."""

BASELINE = "baseline"
BLANK = "blank"  # the row of the baseline asked about blank images
NOISE = "noise"  # the row of the baseline's responses generated again in batches of another size
PUBLISHED = " †"  # behind the label of a model that nobody trained here
CONTROLS = (BLANK, NOISE)  # shown, never tested
