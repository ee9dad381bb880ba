"""backbone: the one place where weights come from, into models/backbone."""

from thaw.stage import main

if __name__ == "__main__":
    main("backbone", __doc__)
