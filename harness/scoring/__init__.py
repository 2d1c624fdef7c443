"""What scores are made of a benchmark's verdicts, and which of its items are asked at all."""
