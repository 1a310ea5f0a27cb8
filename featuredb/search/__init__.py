"""featuredb."""
