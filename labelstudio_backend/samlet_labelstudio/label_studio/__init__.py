"""All that talks to a Label Studio, or knows its labeling configs."""
