"""Publishers that come by WHIP: participants without a socket of ours."""
