"""A recipe's command line, and what every command asks of the machine it runs on."""
