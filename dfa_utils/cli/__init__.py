"""The command line: what can be said (`parser`), what it does (`commands`), and how it looks (`terminal`)."""
