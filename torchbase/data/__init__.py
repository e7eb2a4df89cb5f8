"""What training reads: splits of data, checks of dictionaries of data, and the validation datasets."""
