"""Music composed here and rendered with a SoundFont."""
