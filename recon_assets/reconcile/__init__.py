"""What each layer must hold, how it differs from that, and the SQL that makes it right."""
