"""An encoder for others: in the formats they load, with a card and the lines that load it."""
