"""Takes records that do not come from the broker: of files and of HTTP, answers to samples, letters read again."""
