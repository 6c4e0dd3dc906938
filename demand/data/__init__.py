"""Files and records of ads into typed rows."""
