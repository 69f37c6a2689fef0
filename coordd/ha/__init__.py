"""High availability: sessions, election, fencing, the serve guard, and the replica that drives them."""
