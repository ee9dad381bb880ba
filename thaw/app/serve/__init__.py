"""`thaw serve`: a local page that shows what each checkpoint sees in an image. Start at `application`."""
