"""Pure geometry of mining: features, homographies, patch votes, overlap, co-visibility. Arrays and
numbers in, arrays out."""
