"""mycoSwarm: a private AI appliance out of the machines that a person owns."""
