"""The ways in: what is asked is read, bounded, priced, admitted, and answered with a 202."""
