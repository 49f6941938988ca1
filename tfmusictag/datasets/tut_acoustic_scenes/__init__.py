"""TUT Acoustic Scenes 2016 and 2017."""
