"""What the checks stand on: how one is declared, how the server under test is reached, how results are written."""
