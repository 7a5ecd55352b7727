"""What every room needs and none owns: files, threads, progress, wording."""
