"""The stage evaluate: scores and predictions of the final model. Start at `final.evaluate`."""
