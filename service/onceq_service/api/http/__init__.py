"""Requests and answers as they are on the wire: what every room above reads and sends with."""
